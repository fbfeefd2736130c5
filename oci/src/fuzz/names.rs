//! Names of repositories, tags and registries, and digests.

use std::sync::LazyLock;

use regex::Regex;
use url::{Host, Url};

use crate::{DOCKER_HUB, Digest, LocalName, Reference, Registry, RemoteName, Repository, Tag};

/// The grammar of the distribution-spec, "Pulling manifests".
static REPOSITORY: LazyLock<Regex> = LazyLock::new(|| {
    grammar(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
});
static TAG: LazyLock<Regex> = LazyLock::new(|| grammar(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"));
static DIGEST: LazyLock<Regex> =
    LazyLock::new(|| grammar(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}"));

/// Returns the expression, which matches only whole texts.
fn grammar(expression: &str) -> Regex {
    match Regex::new(&format!(r"\A(?:{expression})\z")) {
        Ok(regex) => regex,
        Err(error) => panic!("{error}"),
    }
}

/// Names are accepted exactly if they match the grammar, and are printed as they were written.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let is_repository = text.len() <= 255 && REPOSITORY.is_match(text);
    assert_eq!(text.parse::<Repository>().is_ok(), is_repository);
    assert_eq!(text.parse::<Tag>().is_ok(), TAG.is_match(text));
    let is_digest = DIGEST.is_match(text);
    assert_eq!(text.parse::<Digest>().is_ok(), is_digest);
    match text.parse::<Reference>() {
        Ok(reference) => assert_eq!(reference.to_string(), text),
        Err(_) => assert!(!is_digest && !TAG.is_match(text)),
    }
    if let Ok(registry) = text.parse::<Registry>() {
        check_registry(&registry, text);
    }
    if let Ok(remote) = text.parse() {
        check_remote(&remote, text);
    }
    if let Ok(LocalName {
        registry,
        repository,
        tag,
    }) = text.parse()
    {
        let name = with_tag(&repository, tag.as_ref());
        let printed = match registry {
            Some(registry) => format!("{registry}/{name}"),
            None => name,
        };
        assert_eq!(printed, text);
    }
}

/// A name is printed as it was written, except that Docker Hub is written out.
fn check_remote(remote: &RemoteName, text: &str) {
    let mut printed = remote.registry.to_string();
    if let Some((repository, tag)) = &remote.name {
        printed += &format!("/{}", with_tag(repository, tag.as_ref()));
    }
    if remote.is_registry_implied {
        assert_eq!(printed, format!("{DOCKER_HUB}/{text}"));
    } else if !remote.registry.is_docker_hub() {
        assert_eq!(printed, text);
    }
    let again = printed.parse::<RemoteName>();
    let again = again.map(|again| (again.registry, again.name));
    assert_eq!(again, Ok((remote.registry.clone(), remote.name.clone())));
}

fn with_tag(repository: &Repository, tag: Option<&Tag>) -> String {
    match tag {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_string(),
    }
}

/// A registry is the whole authority of its URL. Hosts that no URL can have are found later, when
/// the client is created.
fn check_registry(registry: &Registry, text: &str) {
    assert_eq!(registry.as_str(), text);
    let Ok(url) = Url::parse(&format!("https://{text}/")) else {
        return;
    };
    assert_eq!((url.path(), url.username()), ("/", ""), "{url}");
    assert!(url.query().is_none() && url.fragment().is_none() && url.password().is_none());
    match url.host() {
        Some(Host::Domain(host)) => assert!(host.eq_ignore_ascii_case(registry.host())),
        Some(Host::Ipv6(address)) => assert_eq!(registry.host().parse(), Ok(address)),
        // Short and hexadecimal forms of addresses are valid names too.
        Some(Host::Ipv4(_)) => assert!(!text.starts_with('[')),
        None => panic!("{url} has no host"),
    }
    let port = text.rsplit_once(':').filter(|_| !text.ends_with(']'));
    let port = port.and_then(|(_, port)| port.parse().ok()).unwrap_or(443);
    assert_eq!(url.port_or_known_default(), Some(port));
}
