//! Signs webhooks as the specification "Standard Webhooks" says.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The shortest secret, in characters. A shorter one could be guessed from a signature.
pub(super) const MIN_SECRET_CHARS: usize = 16;
/// The start of a secret whose rest is the key in Base64.
const BASE64_PREFIX: &str = "whsec_";

/// The key of the signatures of a webhook.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SigningKey(Vec<u8>);

impl SigningKey {
    /// Reads a secret: `whsec_` and the key in Base64, or any other text, whose bytes are the key.
    ///
    /// # Errors
    /// The secret is too short, or is not Base64 after `whsec_`.
    pub(super) fn of(secret: &str) -> Result<Self, String> {
        if secret.len() < MIN_SECRET_CHARS {
            return Err(format!("has fewer than {MIN_SECRET_CHARS} characters"));
        }
        match secret.strip_prefix(BASE64_PREFIX) {
            Some(encoded) => match STANDARD.decode(encoded) {
                Ok(key) if !key.is_empty() => Ok(Self(key)),
                _ => Err(format!("is not Base64 after {BASE64_PREFIX}")),
            },
            None => Ok(Self(secret.as_bytes().to_vec())),
        }
    }

    /// Returns the header `webhook-signature`: the HMAC-SHA256 of id, time and body.
    pub(super) fn sign(&self, id: &str, unix_seconds: u64, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let signed = format!("{id}.{unix_seconds}.{body}");
        let tag = hmac::sign(&key, signed.as_bytes());
        format!("v1,{}", STANDARD.encode(tag.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        // The example of the specification.
        let key = SigningKey::of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").ok();
        let signature = key.unwrap().sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            "{\"test\": 2432232314}",
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn weak_and_damaged_secrets_are_rejected() {
        for (secret, is_valid) in [
            ("0123456789abcdef", true),
            ("0123456789abcde", false),
            ("", false),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true),
            ("whsec_!!!!!!!!!!!!!!", false),
        ] {
            assert_eq!(SigningKey::of(secret).is_ok(), is_valid, "{secret}");
        }
    }
}
