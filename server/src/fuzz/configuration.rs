//! The configuration file and the environment variables.

use crate::config::{
    Config, ConfigInput, LoadedConfig, ReceiverUrl, Secret, SecretSource, parse_config,
};

/// The line after which the rest of an input is variables, one a line.
const VARIABLES: &str = "\n# variables\n";
/// The value that is printed for a secret.
const MASK: &str = "******";

/// An accepted configuration is printed as a file that has the same effect.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (file, variables) = text.split_once(VARIABLES).unwrap_or((text, ""));
    let variables: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let loaded = match load(file, &variables) {
        Ok(loaded) => loaded,
        Err(text) => {
            assert!(text.lines().count() > 1, "an error without reasons: {text}");
            return;
        }
    };
    let printed = loaded.to_yaml();
    let again = match load(&printed, &[]) {
        Ok(again) => again,
        Err(errors) => panic!("{printed}\n{errors}"),
    };
    let (mut again, mut config) = (without_secrets(again), without_secrets(loaded));
    for (header, values) in std::mem::take(&mut again.http.headers) {
        let (name, original) = config.http.headers.remove(0);
        assert_eq!(header, name);
        assert!(
            values == original || values == [MASK],
            "{header}: {values:?}"
        );
    }
    assert_eq!(again, config, "{printed}");
}

fn load(file: &str, variables: &[(String, String)]) -> Result<LoadedConfig, String> {
    let loaded = parse_config(ConfigInput {
        file: Some(("config.yml", file)),
        variables,
        arguments: &[],
    });
    loaded.map_err(|errors| errors.to_string())
}

fn without_secrets(loaded: LoadedConfig) -> Config {
    let mut config = loaded.config;
    let mask = |text: &mut String| MASK.clone_into(text);
    config
        .http
        .secret
        .iter_mut()
        .for_each(|secret| mask(&mut secret.0));
    for upstream in &mut config.cache.upstreams {
        if let Some(login) = &mut upstream.login
            && let SecretSource::Inline(secret) = &mut login.password
        {
            mask(&mut secret.0);
        }
    }
    let mask_url = |url: &mut ReceiverUrl| {
        let shown = url.to_string();
        url.0 = shown
            .parse()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
    };
    for endpoint in &mut config.notifications.endpoints {
        endpoint.url.iter_mut().for_each(mask_url);
        for (_, values) in &mut endpoint.headers {
            *values = vec![Secret(MASK.to_owned())];
        }
    }
    for webhook in &mut config.imgsync.webhooks {
        mask_url(&mut webhook.url);
        if let SecretSource::Inline(secret) = &mut webhook.secret {
            mask(&mut secret.0);
        }
    }
    config
}
