//! The bearer token, where the operator has set one.

use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Fewer can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// More is not a token.
const TOKEN_BYTES_MAX: usize = 1_024;

/// What a request has to carry.
#[derive(Clone)]
pub(crate) struct Token(Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Checks a token; spaces around it are left out.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let sane = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !sane {
            return Err(format!(
                "a token is {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} printable characters \
                 without spaces"
            ));
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The text, for a request of our own.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Whether the request carries it. The time this takes tells the token's length and no more.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, given)) = value.as_bytes().split_at_checked(7) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(given.ct_eq(self.0.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let token = Token::new(" 0123456789abcdef\n").expect("valid");
        let is_in = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a value"));
            token.is_in(&headers)
        };
        assert!(is_in("Bearer 0123456789abcdef") && is_in("bearer 0123456789abcdef"));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcdef0",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(!is_in(bad), "{bad}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
        assert_eq!(format!("{token:?}"), "Token(..)");
        assert!(Token::new("short").is_err() && Token::new("0123456789 abcdefgh").is_err());
    }
}
