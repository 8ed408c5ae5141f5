//! Whether a file is whole, and a model.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use infera_model::{Gguf, ModelError};
use ring::digest;

/// Whether a file can be read as GGUF, else why not.
pub(super) fn check_gguf(path: &Path, name: &str) -> Result<(), String> {
    match Gguf::open(path) {
        Ok(_) => Ok(()),
        Err(ModelError::Malformed { fault, .. }) => {
            Err(format!("`{name}` is not a usable GGUF file: {fault}."))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Lower-case hex. `go_on` gets the bytes read so far, and ends it with `false`.
pub(super) fn sha256(path: &Path, mut go_on: impl FnMut(u64) -> bool) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut block = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        if !go_on(done) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match file.read(&mut block) {
            Ok(0) => return Ok(hex::encode(context.finish())),
            Ok(got) => {
                context.update(&block[..got]);
                done += got as u64;
            }
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
}
