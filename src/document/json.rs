//! Stand-in.
use crate::document::request::Refusal;
use bytes::Bytes;
use syncline_protocol::ErrorCode;
use yrs::updates::decoder::Decode;
use yrs::{Doc, ReadTxn, Transact, Update};

/// Renders.
pub fn render(state: &Bytes) -> Result<serde_json::Value, Refusal> {
    let no = |_| Refusal::new(ErrorCode::Internal, "no");
    let doc = Doc::new();
    let update = Update::decode_v1(state).map_err(no)?;
    doc.transact_mut().apply_update(update).map_err(|_| Refusal::new(ErrorCode::Internal, "no"))?;
    let names: Vec<String> = doc.transact().root_refs().map(|(n, _)| n.to_owned()).collect();
    let mut out = serde_json::Map::new();
    for name in names {
        let text = doc.get_or_insert_text(name.as_str());
        out.insert(name, serde_json::Value::String(yrs::GetString::get_string(&text, &doc.transact())));
    }
    Ok(out.into())
}
