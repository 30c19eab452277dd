//! Who may command.

use std::{fmt, sync::Arc};

use ::axum::http::{HeaderMap, header::AUTHORIZATION};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::vocabulary::settings::ConfigError;

/// Bytes of the shortest token that is taken.
const SHORTEST: usize = 16;

/// Bytes of the longest.
const LONGEST: usize = 256;

/// The tokens that are set, with what each is labelled.
#[derive(Clone, Default)]
pub(super) struct Tokens(Vec<Token>);

#[derive(Clone)]
struct Token {
    label: Arc<str>,
    secret: String,
}

impl Tokens {
    pub(super) fn push(&mut self, label: String, secret: String) {
        let label = label.into();
        self.0.push(Token { label, secret });
    }

    pub(super) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (at, token) in self.0.iter().enumerate() {
            if token.label.trim().is_empty() {
                let value = format!("{:?}", token.label);
                return Err(ConfigError::new("token.label", value, "say whose it is"));
            }
            if self.0[..at].iter().any(|before| before.label == token.label) {
                let value = format!("{:?}", token.label);
                return Err(ConfigError::new(
                    "token.label",
                    value,
                    "another token is labelled so",
                ));
            }
            if !(SHORTEST..=LONGEST).contains(&token.secret.len()) || !is_bearer(&token.secret) {
                let accepted = format!(
                    "accepted: from {SHORTEST} to {LONGEST} visible ASCII characters; `openssl rand -hex 32` makes one"
                );
                // Not the token itself: errors are logged.
                let value = format!("{} bytes, of `{}`", token.secret.len(), token.label);
                return Err(ConfigError::new("token", value, accepted));
            }
        }
        Ok(())
    }

    /// The label of the token in these headers.
    pub(super) fn label(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        let given = bearer(headers)?;
        if given.len() > LONGEST {
            return None;
        }
        let given = padded(given);
        // All of them, whichever it is: how long it takes says nothing.
        let (mut found, mut at) = (Choice::from(0), 0_u64);
        for (index, token) in (0_u64..).zip(&self.0) {
            let same = padded(token.secret.as_bytes()).ct_eq(&given);
            at.conditional_assign(&index, same);
            found |= same;
        }
        let index = usize::try_from(at).ok()?;
        bool::from(found).then(|| Arc::clone(&self.0[index].label))
    }
}

/// What can stand in a header.
fn is_bearer(secret: &str) -> bool {
    secret.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let value = all.next()?.as_bytes();
    if all.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// A token in a fixed length, so that comparing it takes the same time however long it is. No header has a zero byte in it,
/// so what is filled up is never what was sent.
fn padded(token: &[u8]) -> [u8; LONGEST] {
    let mut bytes = [0; LONGEST];
    for (to, from) in bytes.iter_mut().zip(token) {
        *to = *from;
    }
    bytes
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the secrets.
        f.debug_list()
            .entries(self.0.iter().map(|token| &token.label))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use ::axum::http::HeaderValue;

    use super::*;

    const ONE: &str = "0123456789abcdef";
    const OTHER: &str = "0123456789abcdeF-and-more";

    fn tokens() -> Tokens {
        let mut tokens = Tokens::default();
        tokens.push("one".to_owned(), ONE.to_owned());
        tokens.push("other".to_owned(), OTHER.to_owned());
        tokens
    }

    fn label(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        tokens().label(&headers).map(|label| label.to_string())
    }

    #[test]
    fn a_token_is_known_by_all_of_it() {
        assert_eq!(label(&format!("Bearer {ONE}")).as_deref(), Some("one"));
        assert_eq!(label(&format!("bEARER {OTHER}")).as_deref(), Some("other"));
        for wrong in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            format!("Basic {ONE}"),
            ONE.to_owned(),
            format!("Bearer {}", &ONE[1..]),
            format!("Bearer {}", &ONE[..15]),
            format!("Bearer {ONE}\u{0}").replace('\u{0}', " "),
            format!("Bearer  {ONE}"),
            format!("Bearer {}", ONE.to_uppercase()),
            format!("Bearer {}", "a".repeat(4_000)),
        ] {
            assert_eq!(label(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn two_of_them_are_none() {
        let mut headers = HeaderMap::new();
        for token in [ONE, OTHER] {
            headers.append(
                AUTHORIZATION,
                HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
            );
        }
        assert_eq!(tokens().label(&headers), None);
    }

    #[test]
    fn a_short_token_is_refused_and_not_shown() {
        let mut tokens = Tokens::default();
        tokens.push("ci".to_owned(), "hunter2".to_owned());
        let error = tokens.check().unwrap_err().to_string();
        assert!(
            error.contains("7 bytes, of `ci`") && !error.contains("hunter2"),
            "{error}"
        );
        assert_eq!(format!("{tokens:?}"), "[\"ci\"]");
    }
}
