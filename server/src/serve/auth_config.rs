//! Selects what the access controller needs from the server's configuration. The conversion is in
//! `serve`, so that `auth` does not depend on `config`.

use crate::auth::AuthConfig;
use crate::config::Config;

impl From<&Config> for AuthConfig {
    fn from(config: &Config) -> Self {
        Self {
            htpasswd: config.auth.clone(),
            anonymous_pull: config.imgsync.anonymous_pull.clone(),
            secret: config.http.secret.as_ref().map(|secret| secret.0.clone()),
        }
    }
}
