//! Turns away what a web page could have sent, before anything else looks at the request.
//!
//! A page in an operator's browser can make it send requests to `127.0.0.1`. Two checks stop it:
//! the `Host` must be an address or `localhost` (a page that had its own name resolve to loopback
//! still sends that name), and a request with an `Origin` must come from this very host and port.
//! Requests without `Origin` are from tools. A `POST` needs `Content-Type: application/json` as
//! well, which a page can't send without being asked for permission first. Where there is a token,
//! everything but the health checks has to carry it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use super::limits::{REQUEST_TIMEOUT, URI_BYTES_MAX};
use super::token::Token;

/// Checks a request, and bounds the time until its answer begins.
pub(super) async fn guard(token: Option<Arc<Token>>, request: Request, next: Next) -> Response {
    if let Err(error) = check(&request).and_then(|()| check_token(token.as_deref(), &request)) {
        return error.into_response();
    }
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response()
        }
    }
}

/// Paths that tell no more than whether the peer is well, for probes that have no token.
const OPEN_PATHS: [&str; 2] = ["/livez", "/readyz"];

fn check_token(token: Option<&Token>, request: &Request) -> Result<(), ApiError> {
    let Some(token) = token else { return Ok(()) };
    if OPEN_PATHS.contains(&request.uri().path()) || token.is_in(request.headers()) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "a bearer token is needed"))
}

fn check(request: &Request) -> Result<(), ApiError> {
    let uri_bytes = request.uri().path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri_bytes > URI_BYTES_MAX {
        let message = format!("the address has {uri_bytes} bytes; at most {URI_BYTES_MAX}");
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, message));
    }
    check_headers(request.headers())
}

fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(ApiError::bad_request("exactly one Host header is needed"));
    };
    let host = host.to_str().map_err(|_| ApiError::bad_request("the Host header is not text"))?;
    if !is_address_or_localhost(host) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "use an IP address or localhost in the URL, not a host name",
        ));
    }
    let same_origin = |origin: &str| {
        origin.strip_prefix("http://").is_some_and(|rest| rest.eq_ignore_ascii_case(host))
    };
    for origin in headers.get_all(ORIGIN) {
        if !origin.to_str().is_ok_and(same_origin) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "requests from web pages are refused",
            ));
        }
    }
    Ok(())
}

/// `host` or `host:port`, with IPv6 in brackets.
fn is_address_or_localhost(authority: &str) -> bool {
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((inner, port)) = rest.split_once(']') else { return false };
        return inner.parse::<Ipv6Addr>().is_ok() && is_port(port.strip_prefix(':'), port);
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let named = host.eq_ignore_ascii_case("localhost");
    (named || host.parse::<IpAddr>().is_ok()) && is_port(port, "")
}

/// A port that is there must be a number; when none is, nothing else may stand in its place.
fn is_port(port: Option<&str>, otherwise: &str) -> bool {
    port.map_or_else(|| otherwise.is_empty(), |port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["127.0.0.1", "127.0.0.1:7980", "localhost:1", "LocalHost", "[::1]:80", "[::1]"]
        {
            assert!(is_address_or_localhost(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:7980",
            "localhost.evil.example",
            "[::1",
            ":80",
            "127.0.0.1:",
            "127.0.0.1:x",
            "[::1]x",
            "[evil]:80",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_address_or_localhost(bad), "{bad}");
        }
    }

    #[test]
    fn origins() {
        let check = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "127.0.0.1:7980".parse().expect("a value"));
            headers.insert(ORIGIN, origin.parse().expect("a value"));
            check_headers(&headers).is_ok()
        };
        assert!(check("http://127.0.0.1:7980"));
        assert!(!check("http://127.0.0.1:8080"));
        assert!(!check("https://127.0.0.1:7980"));
        assert!(!check("http://evil.example"));
        assert!(!check("null"));
    }
}
