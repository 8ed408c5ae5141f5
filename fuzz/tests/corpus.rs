//! Every input that was kept, bugs of the past included, goes through its target.

use std::fs;
use std::path::Path;

use infera_fuzz::TARGETS;

#[test]
fn every_kept_input_goes_through_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let folder = fs::read_dir(corpus.join(target.name)).unwrap();
        let files: Vec<_> = folder.map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        for file in files {
            // Shown when the target panics.
            println!("{}", file.display());
            (target.run)(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_corpus_is_a_targets() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for folder in fs::read_dir(corpus).unwrap() {
        let name = folder.unwrap().file_name();
        assert!(
            TARGETS.iter().any(|target| *target.name == *name),
            "{name:?} is the corpus of no target"
        );
    }
}
