//! Reads GGUF, the file format that models come in, from a memory map.
//!
//! A file may come from a stranger: every count, length and offset is checked against the file's
//! size and against a limit before it is used, and nothing is allocated that the file does not
//! hold. Source of the format: ggml's `docs/gguf.md`.

pub mod write;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::ModelError;
use crate::quant::{self, TensorType};

/// The version this program writes.
pub const VERSION: u32 = 3;
/// Those it reads: version 3 only added big-endian files, which are refused.
const VERSIONS: [u32; 2] = [2, VERSION];

const MAGIC: [u8; 4] = *b"GGUF";
const MAX_TENSORS: u64 = 1 << 16;
const MAX_KEYS: u64 = 1 << 16;
const MAX_KEY_BYTES: u64 = (1 << 16) - 1;
const MAX_TENSOR_NAME_BYTES: u64 = 256;
const MAX_STRING_BYTES: u64 = 1 << 24;
const MAX_ARRAY_ITEMS: u64 = 1 << 24;
const MAX_DIMENSIONS: u32 = 4;
const MAX_ALIGNMENT: u32 = 1 << 20;
const DEFAULT_ALIGNMENT: u32 = 32;

/// An open model file.
pub struct Gguf {
    file: String,
    bytes: Source,
    metadata: BTreeMap<String, Entry>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    head_bytes: usize,
    /// Where the tensor data begins; none for a head, which has no data.
    data_start: Option<usize>,
}

/// A tensor's entry in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// As the file has it.
    pub name: String,
    /// How the values are stored.
    pub kind: TensorType,
    /// In ggml's order: `dims[0]` is the fastest, the length of a row. A matrix that maps `n`
    /// inputs to `m` outputs has the dims `[n, m]`.
    pub dims: Vec<u64>,
    /// From the start of the tensor data.
    pub offset: u64,
    /// How many bytes the tensor takes.
    pub bytes: u64,
}

impl TensorInfo {
    /// How many values the tensor holds.
    pub fn values(&self) -> u64 {
        self.dims.iter().product()
    }
}

/// A tensor with its stored bytes.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Its entry in the file.
    pub info: &'a TensorInfo,
    /// The values as they are stored.
    pub bytes: &'a [u8],
}

impl Gguf {
    /// Maps the file and checks everything but the weights' values.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let failed = |source| ModelError::Open {
            path: path.to_owned(),
            source,
        };
        let file = open_regular(path).map_err(failed)?;
        let name = path.file_name().map_or_else(
            || path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        let details = file.metadata().map_err(failed)?;
        if details.len() == 0 {
            return Err(ModelError::malformed(&name, "it is empty"));
        }
        // SAFETY: The map is only read. A model file is never written to after its download; if
        // another process truncates it all the same, the process that reads it (the engine's own
        // child process) ends with a bus error, which the node survives.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Self::parse(name, Source::Map(map), false)
    }

    /// Reads a whole file from memory; `name` is what errors call it.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>, name: &str) -> Result<Self, ModelError> {
        Self::parse(name.to_owned(), Source::Bytes(bytes.into()), false)
    }

    /// Reads a file's head, all before the tensor data. Its tensors have no bytes.
    pub(crate) fn head_from_bytes(
        bytes: impl Into<Arc<[u8]>>,
        name: &str,
    ) -> Result<Self, ModelError> {
        Self::parse(name.to_owned(), Source::Bytes(bytes.into()), true)
    }

    /// The file's name without its folder, as errors give it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// `general.name`, else the file's name.
    pub fn name(&self) -> &str {
        match self.get_str("general.name") {
            Ok(Some(name)) if !name.trim().is_empty() => name,
            _ => &self.file,
        }
    }

    /// The tensors in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// A tensor's entry; none when there is no such tensor.
    pub fn tensor_info(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|index| &self.tensors[*index])
    }

    /// None when there is no such tensor, and for every tensor of a head.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.view(self.tensor_info(name)?)
    }

    /// All tensors with their bytes, in the file's order. None of them for a head.
    pub fn views(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.tensors.iter().filter_map(|info| self.view(info))
    }

    /// The metadata's keys in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.metadata.keys().map(String::as_str)
    }

    /// Whether the metadata have the key.
    pub fn contains(&self, key: &str) -> bool {
        self.metadata.contains_key(key)
    }

    /// Any integer type that holds a number from 0 to 2^32 - 1.
    pub fn get_u32(&self, key: &str) -> Result<Option<u32>, ModelError> {
        self.get(key, "is not a number from 0 to 4294967295", |value, _| {
            value
                .integer()
                .and_then(|number| u32::try_from(number).ok())
        })
    }

    /// A 32-bit float, or a 64-bit one, rounded.
    pub fn get_f32(&self, key: &str) -> Result<Option<f32>, ModelError> {
        self.get(
            key,
            "is not a number with a fraction",
            |value, _| match *value {
                Value::F32(number) => Some(number),
                Value::F64(number) => Some(number as f32),
                _ => None,
            },
        )
    }

    /// True or false; none when the key is absent.
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.get(key, "is not true or false", |value, _| match *value {
            Value::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    /// A UTF-8 text; none when the key is absent.
    pub fn get_str(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.get(key, "is not a text", |value, bytes| match value {
            Value::String(range) => std::str::from_utf8(&bytes[range.clone()]).ok(),
            _ => None,
        })
    }

    /// An array of texts.
    pub fn get_strings(&self, key: &str) -> Result<Option<Vec<&str>>, ModelError> {
        self.get(key, "is not a list of texts", |value, bytes| {
            let Value::Array(array) = value else {
                return None;
            };
            if array.kind != Kind::String {
                return None;
            }
            let mut reader = Reader::new(&bytes[array.range.clone()]);
            (0..array.items)
                .map(|_| reader.string(MAX_STRING_BYTES).ok())
                .collect()
        })
    }

    /// An array of `f32`.
    pub fn get_f32s(&self, key: &str) -> Result<Option<Vec<f32>>, ModelError> {
        self.get(
            key,
            "is not a list of 32-bit floats",
            |value, bytes| match value {
                Value::Array(array) if array.kind == Kind::F32 => Some(
                    bytes[array.range.clone()]
                        .as_chunks()
                        .0
                        .iter()
                        .map(|bytes| f32::from_le_bytes(*bytes))
                        .collect(),
                ),
                _ => None,
            },
        )
    }

    /// An array of `i32` or `u32` whose values fit `i32`.
    pub fn get_i32s(&self, key: &str) -> Result<Option<Vec<i32>>, ModelError> {
        self.get(
            key,
            "is not a list of 32-bit integers",
            |value, bytes| match value {
                Value::Array(array) if matches!(array.kind, Kind::I32 | Kind::U32) => bytes
                    [array.range.clone()]
                .as_chunks()
                .0
                .iter()
                .map(|bytes| {
                    let number = i32::from_le_bytes(*bytes);
                    (array.kind == Kind::I32 || number >= 0).then_some(number)
                })
                .collect(),
                _ => None,
            },
        )
    }

    /// How many items an array has.
    pub fn array_len(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.get(key, "is not a list", |value, _| match value {
            Value::Array(array) => Some(array.items),
            _ => None,
        })
    }

    /// Turns an absent value into an error that names the key.
    pub fn require<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| ModelError::MissingMetadata {
            file: self.file.clone(),
            key: key.to_owned(),
        })
    }

    /// The value's type number and encoding as the file holds them.
    pub(crate) fn encoded(&self, key: &str) -> Option<&[u8]> {
        let entry = self.metadata.get(key)?;
        Some(&self.bytes.as_slice()[entry.encoded.clone()])
    }

    /// Everything before the tensor data, without the padding.
    pub(crate) fn head(&self) -> &[u8] {
        &self.bytes.as_slice()[..self.head_bytes]
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        fault: &str,
        read: impl FnOnce(&'a Value, &'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let Some(entry) = self.metadata.get(key) else {
            return Ok(None);
        };
        read(&entry.value, self.bytes.as_slice())
            .map(Some)
            .ok_or_else(|| ModelError::metadata(&self.file, key, fault))
    }

    fn view<'a>(&'a self, info: &'a TensorInfo) -> Option<TensorView<'a>> {
        let start = self.data_start?.checked_add(info.offset as usize)?;
        let end = start.checked_add(info.bytes as usize)?;
        let bytes = self.bytes.as_slice().get(start..end)?;
        Some(TensorView { info, bytes })
    }

    fn parse(file: String, bytes: Source, head_only: bool) -> Result<Self, ModelError> {
        let parsed = Parsed::read(bytes.as_slice(), head_only)
            .map_err(|fault| ModelError::malformed(&file, fault))?;
        let by_name = parsed
            .tensors
            .iter()
            .enumerate()
            .map(|(index, info)| (info.name.clone(), index))
            .collect();
        Ok(Self {
            file,
            bytes,
            metadata: parsed.metadata,
            tensors: parsed.tensors,
            by_name,
            head_bytes: parsed.head_bytes,
            data_start: parsed.data_start,
        })
    }
}

/// Opens a file to read it, and nothing else: to open a pipe would wait for whoever writes to it.
pub fn open_regular(path: &Path) -> io::Result<File> {
    if std::fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        let fault = "it is not a regular file";
        Err(io::Error::new(io::ErrorKind::InvalidInput, fault))
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Gguf")
            .field("file", &self.file)
            .field("keys", &self.metadata.len())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

enum Source {
    Map(Mmap),
    Bytes(Arc<[u8]>),
}

impl Source {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Bytes(bytes) => bytes,
        }
    }
}

struct Entry {
    value: Value,
    /// Type number and value, in the file.
    encoded: Range<usize>,
}

/// Texts and arrays stay in the file; only their place is kept.
enum Value {
    Integer(i128),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(Range<usize>),
    Array(Array),
}

impl Value {
    fn integer(&self) -> Option<i128> {
        match *self {
            Self::Integer(number) => Some(number),
            _ => None,
        }
    }
}

struct Array {
    kind: Kind,
    items: usize,
    range: Range<usize>,
}

/// A metadata value's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// Bytes of one value; none where that depends on the value.
    fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

type Fault = String;

struct Parsed {
    metadata: BTreeMap<String, Entry>,
    tensors: Vec<TensorInfo>,
    head_bytes: usize,
    data_start: Option<usize>,
}

impl Parsed {
    fn read(bytes: &[u8], head_only: bool) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes);
        if reader
            .array::<4>()
            .map_err(|_| "it is shorter than a header")?
            != MAGIC
        {
            return Err("it does not begin with the letters GGUF".to_owned());
        }
        let version = reader.u32()?;
        if !VERSIONS.contains(&version) {
            return Err(if VERSIONS.contains(&version.swap_bytes()) {
                "it is in big-endian byte order, and this program reads little-endian".to_owned()
            } else {
                format!("its version is {version}, and this program reads versions 2 and 3")
            });
        }
        let tensor_count = reader.count("tensors", MAX_TENSORS, 8 + 4 + 8 + 4 + 8)?;
        let key_count = reader.count("metadata entries", MAX_KEYS, 8 + 4 + 1)?;

        let mut metadata = BTreeMap::new();
        for _ in 0..key_count {
            let key = reader.string(MAX_KEY_BYTES)?.to_owned();
            let entry = reader.entry(&key)?;
            if metadata.insert(key.clone(), entry).is_some() {
                return Err(format!("the metadata `{key}` is there twice"));
            }
        }
        let alignment = alignment(&metadata)?;
        refuse_part(&metadata)?;

        let mut tensors = Vec::with_capacity(tensor_count);
        for _ in 0..tensor_count {
            tensors.push(reader.tensor(alignment)?);
        }
        let head_bytes = reader.position;
        let data_start = if head_only {
            if head_bytes != bytes.len() {
                return Err("something follows its list of tensors".to_owned());
            }
            None
        } else {
            Some(head_bytes.next_multiple_of(alignment as usize))
        };
        let available = data_start.map(|start| (bytes.len() as u64).saturating_sub(start as u64));
        check_layout(&tensors, available)?;
        Ok(Self {
            metadata,
            tensors,
            head_bytes,
            data_start,
        })
    }
}

fn alignment(metadata: &BTreeMap<String, Entry>) -> Result<u32, Fault> {
    let Some(entry) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    entry
        .value
        .integer()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| number.is_power_of_two() && *number <= MAX_ALIGNMENT)
        .ok_or_else(|| "its alignment is not a power of two up to 1048576".to_owned())
}

/// A large model may come in several files, of which only all together can be used.
fn refuse_part(metadata: &BTreeMap<String, Entry>) -> Result<(), Fault> {
    let number = |key: &str| metadata.get(key)?.value.integer();
    match number("split.count") {
        Some(count) if count > 1 => Err(format!(
            "it is part {} of a model in {count} files, and this program reads models in one. Join the \
             parts first: `llama-gguf-split --merge FIRST-PART.gguf WHOLE.gguf`, of llama.cpp, does it",
            number("split.no").map_or_else(|| "?".to_owned(), |part| (part + 1).to_string())
        )),
        _ => Ok(()),
    }
}

/// Names are unique, and every tensor has bytes of its own inside the file.
fn check_layout(tensors: &[TensorInfo], available: Option<u64>) -> Result<(), Fault> {
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_by(|left, right| left.name.cmp(&right.name));
    for pair in by_offset.windows(2) {
        if pair[0].name == pair[1].name {
            return Err(format!("the tensor `{}` is there twice", pair[0].name));
        }
    }
    by_offset.sort_by_key(|info| info.offset);
    for pair in by_offset.windows(2) {
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            return Err(format!(
                "the tensors `{}` and `{}` overlap",
                pair[0].name, pair[1].name
            ));
        }
    }
    if let (Some(available), Some(last)) = (available, by_offset.last()) {
        let needed = last.offset + last.bytes;
        if needed > available {
            return Err(format!(
                "it is cut off: its tensors need {needed} bytes and it holds {available}"
            ));
        }
    }
    Ok(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn skip(&mut self, bytes: usize) -> Result<Range<usize>, Fault> {
        if bytes > self.remaining() {
            return Err(format!(
                "it is cut off: {bytes} bytes are due at byte {} and {} are left",
                self.position,
                self.remaining()
            ));
        }
        let start = self.position;
        self.position += bytes;
        Ok(start..self.position)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let range = self.skip(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of things of at least `least_bytes` bytes each.
    fn count(&mut self, what: &str, limit: u64, least_bytes: u64) -> Result<usize, Fault> {
        let count = self.u64()?;
        if count > limit {
            return Err(format!(
                "it claims {count} {what}, and the limit is {limit}"
            ));
        }
        if count * least_bytes > self.remaining() as u64 {
            return Err(format!(
                "it claims {count} {what}, more than its {} bytes can hold",
                self.bytes.len()
            ));
        }
        Ok(count as usize)
    }

    fn string_range(&mut self, limit: u64) -> Result<Range<usize>, Fault> {
        let at = self.position;
        let length = self.u64()?;
        if length > limit {
            return Err(format!(
                "the text at byte {at} claims {length} bytes, and the limit is {limit}"
            ));
        }
        let range = self.skip(length as usize)?;
        match std::str::from_utf8(&self.bytes[range.clone()]) {
            Ok(_) => Ok(range),
            Err(_) => Err(format!("the text at byte {at} is not UTF-8")),
        }
    }

    fn string(&mut self, limit: u64) -> Result<&'a str, Fault> {
        let range = self.string_range(limit)?;
        std::str::from_utf8(&self.bytes[range]).map_err(|error| error.to_string())
    }

    fn kind(&mut self, key: &str) -> Result<Kind, Fault> {
        let code = self.u32()?;
        Kind::ALL
            .get(code as usize)
            .copied()
            .ok_or_else(|| format!("the metadata `{key}` has the unknown type {code}"))
    }

    fn entry(&mut self, key: &str) -> Result<Entry, Fault> {
        let start = self.position;
        let value = match self.kind(key)? {
            Kind::U8 => Value::Integer(i128::from(u8::from_le_bytes(self.array()?))),
            Kind::I8 => Value::Integer(i128::from(i8::from_le_bytes(self.array()?))),
            Kind::U16 => Value::Integer(i128::from(u16::from_le_bytes(self.array()?))),
            Kind::I16 => Value::Integer(i128::from(i16::from_le_bytes(self.array()?))),
            Kind::U32 => Value::Integer(i128::from(self.u32()?)),
            Kind::I32 => Value::Integer(i128::from(i32::from_le_bytes(self.array()?))),
            Kind::U64 => Value::Integer(i128::from(self.u64()?)),
            Kind::I64 => Value::Integer(i128::from(i64::from_le_bytes(self.array()?))),
            Kind::F32 => Value::F32(f32::from_le_bytes(self.array()?)),
            Kind::F64 => Value::F64(f64::from_le_bytes(self.array()?)),
            Kind::Bool => match self.array::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => {
                    return Err(format!(
                        "the metadata `{key}` is {other} where 0 or 1 is due"
                    ));
                }
            },
            Kind::String => Value::String(self.string_range(MAX_STRING_BYTES)?),
            Kind::Array => Value::Array(self.array_value(key)?),
        };
        Ok(Entry {
            value,
            encoded: start..self.position,
        })
    }

    fn array_value(&mut self, key: &str) -> Result<Array, Fault> {
        let kind = self.kind(key)?;
        if kind == Kind::Array {
            return Err(format!(
                "the metadata `{key}` is a list of lists, which no model needs"
            ));
        }
        let items = self.count(
            "list items",
            MAX_ARRAY_ITEMS,
            kind.size().unwrap_or(8) as u64,
        )?;
        let start = self.position;
        match kind.size() {
            Some(size) => {
                self.skip(items * size)?;
            }
            None => {
                for _ in 0..items {
                    self.string_range(MAX_STRING_BYTES)?;
                }
            }
        }
        Ok(Array {
            kind,
            items,
            range: start..self.position,
        })
    }

    fn tensor(&mut self, alignment: u32) -> Result<TensorInfo, Fault> {
        let name = self.string(MAX_TENSOR_NAME_BYTES)?.to_owned();
        let dimensions = self.u32()?;
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(format!(
                "the tensor `{name}` has {dimensions} dimensions where 1 to {MAX_DIMENSIONS} are due"
            ));
        }
        let dims = (0..dimensions)
            .map(|_| self.u64())
            .collect::<Result<Vec<_>, _>>()?;
        let code = self.u32()?;
        let Some(kind) = TensorType::from_code(code) else {
            let known: Vec<_> = TensorType::ALL.iter().map(|kind| kind.name()).collect();
            let kind = quant::other_type(code).map_or_else(
                || format!("the unknown type {code}"),
                |name| format!("the type {name}"),
            );
            return Err(format!(
                "the tensor `{name}` has {kind}; this program reads {}",
                known.join(", ")
            ));
        };
        let offset = self.u64()?;
        if !offset.is_multiple_of(u64::from(alignment)) {
            return Err(format!(
                "the tensor `{name}` is not aligned to {alignment} bytes"
            ));
        }
        let too_large = || format!("the tensor `{name}` has impossible dimensions");
        let block_values = kind.block_values() as u64;
        if dims.contains(&0) || !dims[0].is_multiple_of(block_values) {
            return Err(too_large());
        }
        let values = dims
            .iter()
            .try_fold(1_u64, |product, dim| product.checked_mul(*dim))
            .ok_or_else(too_large)?;
        let bytes = (values / block_values)
            .checked_mul(kind.block_bytes() as u64)
            .ok_or_else(too_large)?;
        // Keeps every later sum of an offset and a size inside both u64 and isize.
        if bytes > 1 << 60 || offset > 1 << 60 || usize::try_from(offset + bytes).is_err() {
            return Err(too_large());
        }
        Ok(TensorInfo {
            name,
            kind,
            dims,
            offset,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests;
