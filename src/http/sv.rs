//! `?sv=`: a state vector in a query.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use syncline_protocol::state_vector::StateVector;

use crate::http::problem::Problem;

/// Longest text: about 5 000 clients. The address of a request cannot be much longer; who has more asks without it.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Reads base64 of either alphabet, padded or not. A `+` that was not percent-encoded has arrived as a space.
///
/// # Errors
/// `PAYLOAD_TOO_LARGE`, or `INVALID_PAYLOAD` at `sv`: 400 for what is not base64, 422 for what is no state vector.
pub(super) fn decode(text: &str) -> Result<StateVector, Problem> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Problem::too_large(TEXT_BYTES_MAX, format!("sv is over {TEXT_BYTES_MAX} bytes")));
    }
    if text.is_empty() {
        return Ok(StateVector::default());
    }
    let standard: Vec<u8> = text.trim_end_matches('=').bytes().map(standard_letter).collect();
    let bytes = STANDARD_NO_PAD.decode(standard).map_err(|_| Problem::unreadable("sv", "sv is not base64"))?;
    StateVector::decode(bytes.into()).map_err(|error| Problem::wrong("sv", format!("sv is no state vector: {error}")))
}

fn standard_letter(letter: u8) -> u8 {
    match letter {
        b'-' | b' ' => b'+',
        b'_' => b'/',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use base64::engine::general_purpose::URL_SAFE;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use syncline_protocol::ErrorCode;

    use super::*;

    #[test]
    fn every_spelling_of_base64_is_read() {
        let vector: StateVector = [(0xfff, 0x3fff), (0x3e, 62), (9, 1)].into_iter().collect();
        let bytes = vector.encode();
        let standard = STANDARD.encode(&bytes);
        let spellings = [standard.replace('+', " "), standard, URL_SAFE.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)];
        for spelling in spellings {
            assert_eq!(decode(&spelling).unwrap(), vector, "{spelling}");
        }
        assert_eq!(decode("").unwrap(), StateVector::default());
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        for bad in ["!!", "AQ", "AAA", "////", &"A".repeat(TEXT_BYTES_MAX)] {
            assert_eq!(decode(bad).unwrap_err().code(), ErrorCode::InvalidPayload, "{bad:.10}");
        }
        assert_eq!(decode(&"A".repeat(TEXT_BYTES_MAX + 1)).unwrap_err().code(), ErrorCode::PayloadTooLarge);
    }
}
