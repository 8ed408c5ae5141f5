//! What a balancer keeps of a model: everything but the weights.

use std::sync::Arc;

use infera_protocol::{Hash, ModelId};

use crate::config::Config;
use crate::error::ModelError;
use crate::gguf::Gguf;
use crate::manifest::{Manifest, hash_weights};
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

const MAGIC: [u8; 4] = *b"INFH";
const VERSION: u16 = 1;

/// A model without its weights: metadata, tokenizer, chat template, and the id of the whole.
#[derive(Debug)]
pub struct Head {
    gguf: Gguf,
    config: Config,
    tokenizer: Arc<Tokenizer>,
    template: Option<Arc<ChatTemplate>>,
    manifest: Manifest,
}

impl Head {
    /// Reads all weights once, to hash them.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let head = Gguf::head_from_bytes(gguf.head(), gguf.file())?;
        Self::new(head, hash_weights(gguf))
    }

    /// Checks the bytes with the same parser that reads model files.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let fault = |fault: &str| ModelError::BadHead {
            fault: fault.to_owned(),
        };
        let short = || fault("it is cut off");
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
        if *magic != MAGIC {
            return Err(fault("it does not begin with the letters INFH"));
        }
        let (version, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(fault(&format!(
                "its version is {version}, and this program reads version {VERSION}"
            )));
        }
        let (weights, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let length = u16::from_le_bytes(*length).into();
        let (file, gguf) = rest.split_at_checked(length).ok_or_else(short)?;
        let file = std::str::from_utf8(file).map_err(|_| fault("its file name is not UTF-8"))?;
        let gguf = Gguf::head_from_bytes(gguf, file)?;
        Self::new(gguf, Hash::from_bytes(*weights))
    }

    /// Magic `INFH`, version (u16), weights hash (32 bytes), the file's name (u16 length, UTF-8),
    /// then the GGUF file up to the tensor data. Little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let file = self.gguf.file();
        let length = u16::try_from(file.len()).unwrap_or(0);
        let file = &file.as_bytes()[..length.into()];
        [
            MAGIC.as_slice(),
            &VERSION.to_le_bytes(),
            self.manifest.weights.as_bytes(),
            &length.to_le_bytes(),
            file,
            self.gguf.head(),
        ]
        .concat()
    }

    /// The name in the metadata, else the file's.
    pub fn name(&self) -> &str {
        self.gguf.name()
    }

    /// The model file's name without its folder.
    pub fn file(&self) -> &str {
        self.gguf.file()
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// An error that says so when the model has none.
    pub fn chat_template(&self) -> Result<&Arc<ChatTemplate>, ModelError> {
        self.template
            .as_ref()
            .ok_or_else(|| ModelError::NoChatTemplate {
                file: self.gguf.file().to_owned(),
            })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The same id as the whole file's.
    pub fn id(&self) -> ModelId {
        self.manifest.id()
    }

    fn new(gguf: Gguf, weights: Hash) -> Result<Self, ModelError> {
        let config = Config::from_gguf(&gguf)?;
        let manifest = Manifest::with_weights(&gguf, &config, weights)?;
        let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf)?);
        let template = if ChatTemplate::is_in(&gguf) {
            Some(Arc::new(ChatTemplate::from_gguf(&gguf)?))
        } else {
            None
        };
        Ok(Self {
            gguf,
            config,
            tokenizer,
            template,
            manifest,
        })
    }
}
