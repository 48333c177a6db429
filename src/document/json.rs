//! A document's content as JSON, for people and for programs that do not speak Yjs.
//!
//! The type of a root is unknown until a client declares it, so content decides: keys make an object, text a string,
//! anything else a list. The engine's own walkers loop for ever on some trees that hostile clients can make; this one reads
//! sequences as text first, is bounded in depth and nodes, and never calls the XML tree walker.

use bytes::Bytes;
use serde_json::Map as JsonMap;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::ErrorCode;
use yrs::Any;
use yrs::Map;
use yrs::MapRef;
use yrs::Out;
use yrs::ReadTxn;
use yrs::Text;
use yrs::TextRef;
use yrs::Transact;
use yrs::branch::Branch;
use yrs::branch::BranchPtr;
use yrs::types::TypeRef;
use yrs::types::array::ArrayIter;
use yrs::types::text::YChange;

use crate::table::content::bytes_json;
use crate::table::content::number_json;

use super::replica::Deleted;
use super::replica::Replica;
use super::request::Refusal;

/// Deeper trees are refused: no editor makes them, and a walk of 10 000 levels overflows the stack.
const DEPTH_MAX: usize = 100;
/// A million cells and their rows, twice over. More would not fit a useful answer.
const NODES_MAX: usize = 4_000_000;

/// Renders a state (Yjs update v1) as an object of its root types. Blocking: a large document takes seconds.
///
/// # Errors
/// `CHANNEL_ERROR` when the content is nested too deeply or has too many nodes to be shown, `INTERNAL` when the state
/// cannot be read.
pub fn render(state: &Bytes) -> Result<Value, Refusal> {
    let unreadable = |_| Refusal::new(ErrorCode::Internal, "the document's state cannot be read");
    let replica = Replica::load(Deleted::Kept, std::iter::once(state)).map_err(unreadable)?;
    render_replica(&replica)
}

/// As [`render`], of a loaded replica.
///
/// # Errors
/// As [`render`].
pub fn render_replica(replica: &Replica) -> Result<Value, Refusal> {
    let txn = replica.doc().transact();
    let mut walk = Walk { txn: &txn, nodes_left: NODES_MAX };
    let mut roots = JsonMap::new();
    for (name, value) in txn.root_refs() {
        roots.insert(name.to_owned(), walk.value(value, 0)?);
    }
    Ok(Value::Object(roots))
}

struct Walk<'t, T: ReadTxn> {
    txn: &'t T,
    nodes_left: usize,
}

impl<T: ReadTxn> Walk<'_, T> {
    fn value(&mut self, value: Out, depth: usize) -> Result<Value, Refusal> {
        let too_large =
            || Refusal::new(ErrorCode::ChannelError, "the document is too deep or too large to show as JSON");
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or_else(too_large)?;
        if depth > DEPTH_MAX {
            return Err(too_large());
        }
        match value {
            Out::Any(any) => self.any(&any, depth),
            Out::YText(text) => self.branch(text.as_ref(), depth),
            Out::YArray(array) => self.branch(array.as_ref(), depth),
            Out::YMap(map) => self.branch(map.as_ref(), depth),
            Out::YXmlElement(element) => self.branch(element.as_ref(), depth),
            Out::YXmlFragment(fragment) => self.branch(fragment.as_ref(), depth),
            Out::YXmlText(text) => self.branch(text.as_ref(), depth),
            Out::UndefinedRef(branch) => self.branch(&branch, depth),
            Out::YDoc(doc) => Ok(json!({ "subdocument": doc.guid().to_string() })),
        }
    }

    fn branch(&mut self, branch: &Branch, depth: usize) -> Result<Value, Refusal> {
        match branch.type_ref() {
            TypeRef::Map => self.keys(branch, depth).map(Value::Object),
            TypeRef::Array => self.items(branch, depth).map(Value::Array),
            TypeRef::Text | TypeRef::XmlText => Ok(Value::String(self.text(branch).unwrap_or_default())),
            TypeRef::XmlElement(tag) => {
                let tag = tag.to_string();
                let attributes = self.keys(branch, depth)?;
                Ok(json!({ "tag": tag, "attributes": attributes, "children": self.items(branch, depth)? }))
            }
            TypeRef::XmlFragment => self.items(branch, depth).map(Value::Array),
            TypeRef::XmlHook | TypeRef::SubDoc | TypeRef::Undefined => self.probed(branch, depth),
        }
    }

    /// A root whose type nobody declared here. Several kinds of content in one root are shown side by side.
    fn probed(&mut self, branch: &Branch, depth: usize) -> Result<Value, Refusal> {
        let keys = self.keys(branch, depth)?;
        let sequence = match self.text(branch) {
            Some(text) => Some(Value::String(text)),
            None => Some(self.items(branch, depth)?).filter(|items| !items.is_empty()).map(Value::Array),
        };
        Ok(match (keys.is_empty(), sequence) {
            (true, None) => Value::Null,
            (true, Some(sequence)) => sequence,
            (false, None) => Value::Object(keys),
            (false, Some(sequence)) => json!({ "keys": keys, "sequence": sequence }),
        })
    }

    fn keys(&mut self, branch: &Branch, depth: usize) -> Result<JsonMap<String, Value>, Refusal> {
        let mut keys = JsonMap::new();
        for (key, value) in MapRef::from(BranchPtr::from(branch)).iter(self.txn) {
            keys.insert(key.to_owned(), self.value(value, depth + 1)?);
        }
        Ok(keys)
    }

    /// The characters of a sequence; `None` when it has none. Follows the items from left to right once, whatever they are.
    fn text(&self, branch: &Branch) -> Option<String> {
        let mut text = None;
        for piece in TextRef::from(BranchPtr::from(branch)).diff(self.txn, YChange::identity) {
            if let Out::Any(Any::String(chars)) = piece.insert {
                text.get_or_insert_with(String::new).push_str(&chars);
            }
        }
        text
    }

    /// The values of a sequence. One that holds characters is not walked as a list: the engine's iterator does not end
    /// on surrogate pairs in a list (`docs/HAZARDS.md`).
    fn items(&mut self, branch: &Branch, depth: usize) -> Result<Vec<Value>, Refusal> {
        if let Some(text) = self.text(branch) {
            return Ok(vec![Value::String(text)]);
        }
        let length = branch.len() as usize;
        ArrayIter::from_ref(branch, self.txn).take(length).map(|item| self.value(item, depth + 1)).collect()
    }

    fn any(&mut self, any: &Any, depth: usize) -> Result<Value, Refusal> {
        Ok(match any {
            Any::Null | Any::Undefined => Value::Null,
            Any::Bool(flag) => Value::Bool(*flag),
            Any::Number(number) => number_json(number),
            Any::String(text) => Value::String(text.to_string()),
            Any::Buffer(bytes) => bytes_json(bytes),
            Any::Array(items) => {
                Value::Array(items.iter().map(|item| self.nested_any(item, depth)).collect::<Result<_, _>>()?)
            }
            Any::Map(map) => {
                let pairs = map.iter().map(|(key, item)| Ok((key.clone(), self.nested_any(item, depth)?)));
                Value::Object(pairs.collect::<Result<_, Refusal>>()?)
            }
        })
    }

    fn nested_any(&mut self, any: &Any, depth: usize) -> Result<Value, Refusal> {
        self.value(Out::Any(any.clone()), depth + 1)
    }
}
