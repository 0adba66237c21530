//! A reader of the pickles that `torch.save` writes for state dicts. It executes nothing.
//!
//! Protocol 2, and of it only the opcodes that such a file needs. A pickle names functions to call; here five names are
//! known and stand for plain values, every other one is an error. Values live in one arena and refer to each other by
//! index, so depth and cycles in a hostile file cost neither stack nor memory: what is kept is bounded by the length of
//! the pickle. Source: the format notes in CPython's `pickletools`.

use std::collections::HashMap;

/// Index of a value in [`Pickle::nodes`].
pub type Id = usize;

/// Largest pickle read; that of a state dict is some 100 bytes a tensor. A hostile one costs up to some 100 bytes of
/// memory for each of its own.
pub const PICKLE_LIMIT_BYTES: usize = 1 << 20;

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 16-bit brain float.
    Bf16,
    /// 64-bit float.
    F64,
    /// Whole numbers and the like, of that many bytes: counters, never weights.
    Other(usize),
}

impl Element {
    /// Bytes of one.
    #[must_use]
    pub fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::F64 => 8,
            Self::Other(size) => size,
        }
    }
}

/// The functions and classes that a state dict names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch.FloatStorage` and the like.
    Storage(Element),
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// None, a flag, a float, or a number too long for `Int`.
    Opaque,
    /// A whole number.
    Int(i64),
    /// A text.
    Text(String),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A list, whose content nobody needs.
    List,
    /// A dict: keys and values in order.
    Dict(Vec<(Id, Id)>),
    /// A function or class.
    Global(Global),
    /// Elements in a file of their own in the archive.
    Storage {
        /// Name of the file.
        key: String,
        /// Type of the elements.
        element: Element,
        /// How many.
        count: usize,
    },
    /// A view of a storage.
    Tensor(Box<StridedView>),
}

/// A view of a storage: `element[offset + sum_i index_i * strides_i]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StridedView {
    /// Name of the storage's file.
    pub key: String,
    /// Type of the elements.
    pub element: Element,
    /// Elements in the storage.
    pub count: usize,
    /// First element.
    pub offset: usize,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Steps, in elements.
    pub strides: Vec<usize>,
}

/// A pickle, read.
#[derive(Debug, Default)]
pub struct Pickle {
    /// All values.
    pub nodes: Vec<Node>,
    /// The outermost.
    pub root: Id,
}

impl Pickle {
    /// The pairs of a dict whose keys are texts; `None` for any other value.
    #[must_use]
    pub fn entries(&self, id: Id) -> Option<Vec<(&str, Id)>> {
        let Node::Dict(pairs) = self.nodes.get(id)? else { return None };
        let entry = |&(key, value): &(Id, Id)| match self.nodes.get(key) {
            Some(Node::Text(text)) => Some((text.as_str(), value)),
            _ => None,
        };
        Some(pairs.iter().filter_map(entry).collect())
    }
}

/// Reads a pickle.
///
/// # Errors
/// What was met and where: an opcode, function or shape of value that no state dict has, or a cut.
pub fn read(bytes: &[u8]) -> Result<Pickle, String> {
    if bytes.len() > PICKLE_LIMIT_BYTES {
        return Err(format!("its pickle is longer than {PICKLE_LIMIT_BYTES} bytes"));
    }
    let mut machine = Machine { bytes, ..Machine::default() };
    loop {
        let at = machine.at;
        let place = |reason| format!("its pickle, at byte {at}: {reason}");
        if let Some(root) = machine.step().map_err(place)? {
            return Ok(Pickle { nodes: machine.nodes, root });
        }
    }
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Machine<'_> {
    /// One opcode. The root, once it is known.
    fn step(&mut self) -> Result<Option<Id>, String> {
        match self.byte()? {
            0x80 => match self.byte()? {
                2 => {}
                other => return Err(format!("protocol {other}, expected 2, that of torch.save")),
            },
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'N' | 0x88 | 0x89 => self.push(Node::Opaque),
            b'G' => {
                self.take(8)?;
                self.push(Node::Opaque);
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()));
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Node::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()));
            }
            0x8a => self.long()?,
            b'X' => self.text()?,
            b'}' => self.push(Node::Dict(vec![])),
            b']' => self.push(Node::List),
            b')' => self.push(Node::Tuple(vec![])),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items));
            }
            count @ 0x85..=0x87 => {
                let items = self.pop_many(usize::from(count - 0x84))?;
                self.push(Node::Tuple(items));
            }
            b'q' | b'r' | b'h' | b'j' => self.memo_opcode()?,
            b's' | b'u' | b'a' | b'e' | b'b' => self.fill()?,
            b'c' => self.global()?,
            b'R' => self.reduce()?,
            b'Q' => self.storage()?,
            other => return Err(format!("opcode {other:#04x}, which no state dict has")),
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("the file is cut here")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, String> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn push(&mut self, node: Node) {
        self.nodes.push(node);
        self.stack.push(self.nodes.len() - 1);
    }

    /// Never reaches below an open mark.
    fn pop(&mut self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let id = if self.stack.len() > floor { self.stack.pop() } else { None };
        id.ok_or_else(|| "a value is missing".to_owned())
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let height = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(height))
    }

    /// A whole number of any length, little-endian, two's complement.
    fn long(&mut self) -> Result<(), String> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;
        let node = if length <= 8 {
            let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
            let mut padded = [if negative { 0xff } else { 0 }; 8];
            padded[..length].copy_from_slice(bytes);
            Node::Int(i64::from_le_bytes(padded))
        } else {
            Node::Opaque
        };
        self.push(node);
        Ok(())
    }

    fn text(&mut self) -> Result<(), String> {
        let length = u32::from_le_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|error| error.to_string())?;
        let node = Node::Text(text.to_owned());
        self.push(node);
        Ok(())
    }

    fn memo_opcode(&mut self) -> Result<(), String> {
        let opcode = self.bytes[self.at - 1];
        let key = match opcode {
            b'q' | b'h' => self.byte()?.into(),
            _ => u32::from_le_bytes(self.array()?),
        };
        if matches!(opcode, b'q' | b'r') {
            let top = *self.stack.last().ok_or("nothing to remember")?;
            self.memo.insert(key, top);
        } else {
            let id = *self.memo.get(&key).ok_or_else(|| format!("memo {key} is empty"))?;
            self.stack.push(id);
        }
        Ok(())
    }

    /// Opcodes that put popped values into the value below.
    fn fill(&mut self) -> Result<(), String> {
        let items = match self.bytes[self.at - 1] {
            b'u' | b'e' => self.pop_to_mark()?,
            b's' => self.pop_many(2)?,
            _ => self.pop_many(1)?,
        };
        let opcode = self.bytes[self.at - 1];
        let target = *self.stack.last().ok_or("nothing to fill")?;
        match (&mut self.nodes[target], opcode) {
            (Node::Dict(pairs), b's' | b'u') => {
                let (new, rest) = items.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err("a key without a value".to_owned());
                }
                pairs.extend(new.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            (Node::List, b'a' | b'e') => Ok(()),
            // The attributes of an `OrderedDict`: PyTorch's `_metadata`, which says nothing about weights.
            (Node::Dict(_), b'b') => Ok(()),
            _ => Err("a value is put into something that cannot hold it".to_owned()),
        }
    }

    fn line(&mut self) -> Result<String, String> {
        let length = self.bytes[self.at..].iter().position(|byte| *byte == b'\n');
        let length = length.ok_or("a name without an end")?;
        let line = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.at += 1;
        Ok(line)
    }

    fn global(&mut self) -> Result<(), String> {
        let (module, name) = (self.line()?, self.line()?);
        let global = match (module.as_str(), name.as_str()) {
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch", "FloatStorage") => Global::Storage(Element::F32),
            ("torch", "HalfStorage") => Global::Storage(Element::F16),
            ("torch", "BFloat16Storage") => Global::Storage(Element::Bf16),
            ("torch", "DoubleStorage") => Global::Storage(Element::F64),
            ("torch", "LongStorage") => Global::Storage(Element::Other(8)),
            ("torch", "IntStorage") => Global::Storage(Element::Other(4)),
            ("torch", "ShortStorage") => Global::Storage(Element::Other(2)),
            ("torch", "CharStorage" | "ByteStorage" | "BoolStorage") => {
                Global::Storage(Element::Other(1))
            }
            _ => {
                return Err(format!(
                    "it wants to run `{module}.{name}`, which is refused: only plain tensors are read. \
                     Save the state dict alone with torch.save(model.state_dict(), ...)"
                ));
            }
        };
        self.push(Node::Global(global));
        Ok(())
    }

    fn tuple(&self, id: Id) -> Result<&[Id], String> {
        match &self.nodes[id] {
            Node::Tuple(items) => Ok(items),
            _ => Err("expected a tuple".to_owned()),
        }
    }

    fn size(&self, id: Id) -> Result<usize, String> {
        match &self.nodes[id] {
            Node::Int(value) => usize::try_from(*value).map_err(|_| format!("a size of {value}")),
            _ => Err("expected a number".to_owned()),
        }
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>, String> {
        self.tuple(id)?.iter().map(|&id| self.size(id)).collect()
    }

    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Node::Global(global) = self.nodes[function] else {
            return Err("something that is no function is called".to_owned());
        };
        let arguments = self.tuple(arguments)?;
        let node = match (global, arguments) {
            (Global::OrderedDict, []) => Node::Dict(vec![]),
            (Global::RebuildParameter, &[tensor, _, _]) => self.nodes[tensor].clone(),
            (Global::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                let Node::Storage { key, element, count } = &self.nodes[storage] else {
                    return Err("a tensor without a storage".to_owned());
                };
                let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
                if shape.len() != strides.len() || shape.len() > MAX_DIMENSIONS {
                    return Err(format!("a tensor of {} dimensions", shape.len()));
                }
                let (key, element, count) = (key.clone(), *element, *count);
                let offset = self.size(offset)?;
                Node::Tensor(Box::new(StridedView { key, element, count, offset, shape, strides }))
            }
            _ => return Err(format!("{global:?} is called in a way torch.save does not")),
        };
        if global == Global::RebuildParameter && !matches!(node, Node::Tensor(_)) {
            return Err("a parameter without a tensor".to_owned());
        }
        self.push(node);
        Ok(())
    }

    /// `("storage", type, key, location, count)`.
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let &[word, kind, key, _, count] = self.tuple(id)? else {
            return Err("a storage of another form than torch.save writes".to_owned());
        };
        let is_storage = matches!(&self.nodes[word], Node::Text(word) if word == "storage");
        let (Node::Global(Global::Storage(element)), Node::Text(key), true) =
            (&self.nodes[kind], &self.nodes[key], is_storage)
        else {
            return Err("a storage of another form than torch.save writes".to_owned());
        };
        if key.len() > MAX_KEY_BYTES {
            return Err("a storage with too long a name".to_owned());
        }
        let node = Node::Storage { key: key.clone(), element: *element, count: self.size(count)? };
        self.push(node);
        Ok(())
    }
}

/// Dimensions of a tensor; weights have four. Views copy their shape, so this and the next bound what a short opcode costs.
const MAX_DIMENSIONS: usize = 8;
/// Length of a storage's name; torch.save writes numbers.
const MAX_KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_other_than_those_of_a_state_dict_are_refused_by_name() {
        let error = read(b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR.").unwrap_err();
        assert!(error.contains("os.system"), "{error}");
    }

    #[test]
    fn deep_and_circular_values_cost_nothing() {
        let mut deep = b"\x80\x02)".to_vec();
        deep.extend(std::iter::repeat_n(0x85, 1_000_000));
        deep.push(b'.');
        assert!(read(&deep).is_ok());
        // A dict that holds itself.
        let circle = read(b"\x80\x02}q\0X\x01\0\0\0ah\0s.").unwrap();
        assert_eq!(circle.entries(circle.root).unwrap(), [("a", circle.root)]);
    }

    #[test]
    fn every_prefix_and_every_changed_byte_is_an_error_or_a_value() {
        let whole = b"\x80\x02}q\0(X\x01\0\0\0actorch\nFloatStorage\nq\x01K\x07\x86q\x02u.";
        assert!(read(whole).is_ok());
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
        for at in 0..whole.len() {
            for byte in 0..=255 {
                let mut changed = whole.to_vec();
                changed[at] = byte;
                let _ = read(&changed);
            }
        }
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        let error = read(b"\x80\x02X\xff\xff\xff\xffabc.").unwrap_err();
        assert!(error.contains("cut"), "{error}");
    }
}
