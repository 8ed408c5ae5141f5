//! What a balancer keeps of a model: everything but the weights.

use std::sync::Arc;

use infera_protocol::{Hash, ModelId, Profile};

use crate::config::Kind;
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
    kind: Kind,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    manifest: Manifest,
}

impl Head {
    /// Reads all weights once, to hash them and to see that they are finite.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let head = Gguf::head_from_bytes(gguf.head(), gguf.file())?;
        Self::new(head, hash_weights(gguf)?)
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

    /// What the model is for, with its sizes.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The model's own tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// An error that says so when the model has none.
    pub fn chat_template(&self) -> Result<&ChatTemplate, ModelError> {
        self.template
            .as_ref()
            .ok_or_else(|| ModelError::NoChatTemplate {
                file: self.gguf.file().to_owned(),
            })
    }

    /// What makes the model's id.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The same id as the whole file's.
    pub fn id(&self, profile: Profile) -> ModelId {
        self.manifest.id(profile)
    }

    fn new(gguf: Gguf, weights: Hash) -> Result<Self, ModelError> {
        let kind = Kind::from_gguf(&gguf)?;
        let manifest = Manifest::with_weights(&gguf, &kind, weights)?;
        let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf)?);
        let template = if ChatTemplate::is_in(&gguf) {
            Some(ChatTemplate::from_gguf(&gguf)?)
        } else {
            None
        };
        Ok(Self {
            gguf,
            kind,
            tokenizer,
            template,
            manifest,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::gguf::write::GgufBuilder;
    use crate::quant::TensorType;
    use crate::template::ChatMessage;
    use crate::testing::{llama_metadata, llama_tensors, model_file, sentence_pieces, tiny};

    const BERT: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../engine/tests/golden/bert.gguf"
    );

    fn id_of(file: &GgufBuilder) -> ModelId {
        Manifest::of(&Gguf::from_bytes(file.build(), "x").unwrap())
            .unwrap()
            .id(Profile::P32)
    }

    fn file() -> GgufBuilder {
        llama_tensors(sentence_pieces(llama_metadata(GgufBuilder::new())))
    }

    fn file_with_output_norm(values: [f32; 32]) -> GgufBuilder {
        let norm = GgufBuilder::new().f32_tensor("output_norm.weight", &[32], &values);
        let gguf = tiny();
        let rest = gguf
            .views()
            .filter(|view| view.info.name != "output_norm.weight");
        let tensors = rest.fold(norm, |file, view| {
            file.tensor(
                &view.info.name,
                view.info.kind,
                &view.info.dims,
                view.bytes.to_vec(),
            )
        });
        sentence_pieces(llama_metadata(tensors))
    }

    #[test]
    fn a_head_has_the_id_of_the_whole_file() {
        let gguf = tiny();
        let head = Head::from_gguf(&gguf).unwrap();
        assert_eq!(
            head.id(Profile::P32),
            Manifest::of(&gguf).unwrap().id(Profile::P32)
        );
        let bytes = head.to_bytes();
        let again = Head::from_bytes(&bytes).unwrap();
        assert_eq!(again.manifest(), head.manifest());
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!((again.name(), again.file()), ("Tiny", "tiny.gguf"));
        assert_eq!(again.kind(), &Kind::from_gguf(&gguf).unwrap());
        assert_eq!(again.tokenizer().encode_prompt("ab", false), [1, 3, 6]);
        let messages = [ChatMessage::new("user", "ab")];
        let template = again.chat_template().unwrap();
        assert_eq!(
            template.render(&messages, true, UNIX_EPOCH).unwrap(),
            "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn an_embedding_model_has_a_head() {
        let gguf = Gguf::open(BERT.as_ref()).unwrap();
        let head = Head::from_bytes(&Head::from_gguf(&gguf).unwrap().to_bytes()).unwrap();
        assert_eq!(
            head.id(Profile::P32),
            Manifest::of(&gguf).unwrap().id(Profile::P32)
        );
        let Kind::Embedder(config) = head.kind() else {
            panic!("{:?}", head.kind());
        };
        assert_eq!((config.embedding, head.kind().context()), (32, 128));
        assert_eq!(head.tokenizer().encode_prompt("t5 t95", true), [5, 95]);
        assert!(head.chat_template().is_err());
    }

    /// A change here changes the id of every model in the network.
    #[test]
    fn the_id_stays_what_it_is() {
        assert_eq!(
            id_of(&file()).to_string(),
            "aab2f1238644e5188456c010c3693528ffd3389d32441317c817d62761013987"
        );
    }

    #[test]
    fn each_profile_has_its_own_id_and_what_has_no_kv_cache_only_one() {
        let head = Head::from_gguf(&tiny()).unwrap();
        let mut ids: Vec<_> = head
            .kind()
            .profiles()
            .iter()
            .map(|of| head.id(*of))
            .collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), Profile::ALL.len());
        for profile in Profile::ALL {
            head.kind().require(profile, "tiny.gguf").unwrap();
        }
        let embedder = Head::from_gguf(&Gguf::open(BERT.as_ref()).unwrap()).unwrap();
        embedder.kind().require(Profile::P32, "bert.gguf").unwrap();
        let refused = embedder.kind().require(Profile::P16, "bert.gguf");
        assert_eq!(
            refused.unwrap_err().to_string(),
            "`bert.gguf` cannot be run in profile P16: an embedding model has no KV cache, and is \
             run in P32."
        );
    }

    #[test]
    fn the_id_depends_on_what_the_answers_depend_on() {
        let id = id_of(&file());
        let changed =
            |first: GgufBuilder| id_of(&llama_tensors(sentence_pieces(llama_metadata(first))));
        let new = GgufBuilder::new;
        assert_eq!(changed(new().str("general.name", "Other")), id);
        assert_eq!(changed(new().u32("general.quantization_version", 2)), id);
        assert_ne!(changed(new().f32("llama.rope.freq_base", 9999.0)), id);
        assert_ne!(changed(new().str("tokenizer.chat_template", "")), id);
        assert_ne!(
            changed(new().bool("tokenizer.ggml.add_bos_token", false)),
            id
        );
        assert_ne!(id_of(&file_with_output_norm([1.0; 32])), id);
    }

    #[test]
    fn a_file_with_a_weight_that_is_not_finite_is_refused_by_the_tensors_name() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; 32];
            values[31] = bad;
            let file = file_with_output_norm(values).build();
            let gguf = Gguf::from_bytes(file, "bad.gguf").unwrap();
            let expected = "`bad.gguf` is not a usable GGUF file: the tensor `output_norm.weight` \
                            has values that are infinite or not numbers; get a sound copy of it.";
            assert_eq!(Manifest::of(&gguf).unwrap_err().to_string(), expected);
            assert_eq!(Head::from_gguf(&gguf).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_order_of_tensors_does_not_matter() {
        let gguf = tiny();
        let mut views: Vec<_> = gguf.views().collect();
        views.reverse();
        let turned = views.iter().fold(GgufBuilder::new(), |file, view| {
            file.tensor(
                &view.info.name,
                view.info.kind,
                &view.info.dims,
                view.bytes.to_vec(),
            )
        });
        let id = id_of(&sentence_pieces(llama_metadata(turned)));
        assert_eq!(id, Manifest::of(&gguf).unwrap().id(Profile::P32));
    }

    #[test]
    fn broken_heads_are_refused() {
        let bytes = Head::from_gguf(&tiny()).unwrap().to_bytes();
        for length in 0..bytes.len() {
            assert!(Head::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        let fault = |bytes: &[u8]| Head::from_bytes(bytes).unwrap_err().to_string();
        assert!(fault(&[b"GGUF", &bytes[4..]].concat()).contains("letters INFH"));
        assert!(fault(&[b"INFH\x09\0", &bytes[6..]].concat()).contains("its version is 9"));
        assert!(fault(&[&bytes[..], &[0]].concat()).contains("something follows"));
    }

    #[test]
    fn a_model_without_template_says_so() {
        let bare = GgufBuilder::new()
            .str("tokenizer.ggml.model", "llama")
            .strings("tokenizer.ggml.tokens", &["a"])
            .f32s("tokenizer.ggml.scores", &[0.0]);
        let sizes = [
            ("token_embd.weight", vec![32, 1]),
            ("output_norm.weight", vec![32]),
        ];
        let gguf = tiny();
        let file = gguf
            .tensors()
            .iter()
            .filter(|info| info.name.starts_with("blk."))
            .map(|info| (info.name.as_str(), info.dims.clone()))
            .chain(sizes)
            .fold(llama_metadata(bare), |file, (name, dims)| {
                let values: u64 = dims.iter().product();
                file.tensor(name, TensorType::F32, &dims, vec![0; 4 * values as usize])
            });
        let head = Head::from_gguf(&Gguf::from_bytes(file.build(), "bare.gguf").unwrap()).unwrap();
        let error = head.chat_template().unwrap_err().to_string();
        assert!(
            error.contains("`bare.gguf` has no chat template"),
            "{error}"
        );
    }

    #[test]
    fn smollm2_has_a_head_of_a_few_megabytes() {
        let Some(path) = model_file("SmolLM2-135M-Instruct.Q4_1.gguf") else {
            return;
        };
        let gguf = Gguf::open(&path).unwrap();
        let bytes = Head::from_gguf(&gguf).unwrap().to_bytes();
        assert!(bytes.len() < 4 << 20, "{}", bytes.len());
        let head = Head::from_bytes(&bytes).unwrap();
        assert_eq!(
            head.id(Profile::P32),
            Manifest::of(&gguf).unwrap().id(Profile::P32)
        );
        let user = ChatMessage::new("user", "Hi");
        let text = head
            .chat_template()
            .unwrap()
            .render(&[user], true, UNIX_EPOCH);
        assert_eq!(
            text.unwrap(),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging \
             Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
    }
}
