//! From an HTTP request to a WebSocket (RFC 6455, section 4.2).

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::Request;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use syncline_protocol::ErrorCode;
use tungstenite::handshake::derive_accept_key;

use crate::http::problem::Problem;

/// The only version there is.
const VERSION: &str = "13";

/// A request for a WebSocket address that does not ask for a WebSocket.
#[derive(Debug)]
pub(super) struct NotAnUpgrade;

impl IntoResponse for NotAnUpgrade {
    fn into_response(self) -> Response {
        let mut response = Problem::new(ErrorCode::InvalidPayload, "this address is for WebSockets").into_response();
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        response
    }
}

/// Whether a request asks for a WebSocket, and may have one.
pub(in crate::http) fn is_complete<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && names(headers, header::CONNECTION, "upgrade")
        && names(headers, header::UPGRADE, "websocket")
        && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == VERSION)
        && headers.contains_key(header::SEC_WEBSOCKET_KEY)
        // The HTTP server's own word that it will let go of the connection.
        && request.extensions().get::<OnUpgrade>().is_some()
}

/// The response that says yes to a complete request.
pub(in crate::http) fn accept(headers: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&[][..], HeaderValue::as_bytes);
    // Base64 is always a header value.
    if let Ok(accept) = HeaderValue::try_from(derive_accept_key(key)) {
        answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = first_protocol(headers) {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// A browser fails the handshake unless the server takes one of the sub-protocols that it offers.
fn first_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    HeaderValue::from_str(offered.split(',').next()?.trim()).ok().filter(|first| !first.is_empty())
}

/// Whether a header that is a list of words has this one.
fn names(headers: &HeaderMap, header: HeaderName, word: &str) -> bool {
    let values = headers.get_all(header);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|named| named.trim().eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        // The example of RFC 6455, section 1.3.
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn request(fields: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in fields {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let on_upgrade = hyper::upgrade::on(&mut request);
        request.extensions_mut().insert(on_upgrade);
        request
    }

    #[test]
    fn a_complete_request_is_answered_with_its_key() {
        let request = request(&COMPLETE);
        assert!(is_complete(&request));
        let answer = accept(request.headers());
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL), None);
    }

    #[test]
    fn what_lacks_anything_is_no_request_for_a_websocket() {
        for missing in 0..COMPLETE.len() {
            let mut fields = COMPLETE.to_vec();
            fields.remove(missing);
            assert!(!is_complete(&request(&fields)), "{missing}");
        }
        let mut post = request(&COMPLETE);
        *post.method_mut() = Method::POST;
        assert!(!is_complete(&post));
        let mut kept = request(&COMPLETE);
        kept.extensions_mut().clear();
        assert!(!is_complete(&kept), "the server does not let go of the connection");
    }

    #[test]
    fn the_first_offered_protocol_is_taken() {
        let mut fields = COMPLETE.to_vec();
        fields.push(("sec-websocket-protocol", " yjs , other"));
        assert_eq!(accept(request(&fields).headers()).headers()[header::SEC_WEBSOCKET_PROTOCOL], "yjs");
    }
}
