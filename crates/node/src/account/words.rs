//! An account's key as 24 words, to be written down: BIP-39 in English, with its checksum, which
//! other programs know too.

use bip0039::{English, Error, Mnemonic};
use infera_protocol::AccountKey;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

const COUNT: usize = 24;
/// What is told of a word that is none.
const LONGEST_TOLD: usize = 40;

/// Why words are no account's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum WordsFault {
    /// There are more or fewer.
    #[error("An account has {COUNT} words, and these are {found}. Look for one that is missing")]
    Count {
        /// How many there are.
        found: u32,
    },
    /// It is none of the 2048 that there are.
    #[error(
        "Word {place}, `{word}`, is none of those that accounts are made of. Did you mean `{nearest}`?"
    )]
    Unknown {
        /// Which, counted from 1.
        place: u32,
        /// As it was typed.
        word: String,
        /// The one of the list that is most like it.
        nearest: String,
    },
    /// Each is one of the list, but together they are no account's.
    #[error(
        "All words are right by themselves, but not together: one is another word of the list, or two changed places. Compare each with what you wrote down"
    )]
    Checksum,
}

/// The words of a key, which are the whole of it.
pub(crate) fn of(key: &AccountKey) -> Vec<String> {
    // 32 bytes are as many as 24 words have, so this does not fail.
    let phrase = Mnemonic::<English>::from_entropy(key.secret().to_vec())
        .map(Mnemonic::into_phrase)
        .unwrap_or_default();
    phrase.split(' ').map(str::to_owned).collect()
}

/// The key of words as people type them: in any case, with any spaces, numbers and dots between
/// them. A backup file counts as its words.
pub(crate) fn read(text: &str) -> Result<AccountKey, WordsFault> {
    let words = words_in(text);
    if words.len() != COUNT {
        return Err(WordsFault::Count {
            found: u32::try_from(words.len()).unwrap_or(u32::MAX),
        });
    }
    for (place, word) in (1..).zip(&words) {
        if English::words().binary_search(&&**word).is_err() {
            return Err(WordsFault::Unknown {
                place,
                word: word.chars().take(LONGEST_TOLD).collect(),
                nearest: nearest(word).to_owned(),
            });
        }
    }
    let entropy = Mnemonic::<English>::from_phrase(words.join(" "))
        .map_err(|error| match error {
            Error::BadWordCount(_) | Error::BadEntropyBitCount(_) => WordsFault::Count {
                found: COUNT as u32,
            },
            Error::UnknownWord(_) | Error::InvalidChecksum => WordsFault::Checksum,
        })?
        .into_entropy();
    let secret = entropy.try_into().map_err(|_| WordsFault::Checksum)?;
    Ok(AccountKey::from_secret(&secret))
}

/// A backup's file: the words, and what they are for whoever finds them.
pub(crate) fn backup(key: &AccountKey) -> String {
    let mut text = format!(
        "\
# Infera Node: backup of the account {}
#
# Whoever has these {COUNT} words owns the account: its machines, its points and its keys. Keep this
# file where nobody else reads it, and not only on the machine with the account.
#
# To restore the account: in the window under Settings, Account, or with
#   infera account restore FILE
# It may be restored on several machines at once.

",
        key.id()
    );
    for words in of(key).chunks(6) {
        text += &words.join(" ");
        text.push('\n');
    }
    text
}

/// Lines that begin with `#` are a backup file's explanation.
fn words_in(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split(|letter: char| !letter.is_alphabetic()))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The word of the list that differs least; of several the first.
fn nearest(word: &str) -> &'static str {
    let short: Vec<char> = word.chars().take(LONGEST_TOLD).collect();
    let words = English::words().iter().copied();
    words
        .min_by_key(|known| difference(&short, known))
        .unwrap_or_default()
}

/// How many letters are to be added, left out or replaced.
fn difference(word: &[char], known: &str) -> usize {
    let mut row: Vec<usize> = (0..=word.len()).collect();
    for (above, letter) in (1..).zip(known.chars()) {
        let mut corner = std::mem::replace(&mut row[0], above);
        for (at, typed) in word.iter().enumerate() {
            let replaced = corner + usize::from(*typed != letter);
            corner = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(corner + 1);
        }
    }
    row[word.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_comes_back_from_its_words_however_they_are_typed(secret: [u8; 32]) {
            let key = AccountKey::from_secret(&secret);
            let words = of(&key);
            prop_assert_eq!(words.len(), COUNT);
            let numbered: Vec<_> = (1..).zip(&words).map(|(place, word)| format!("{place}. {word}")).collect();
            for text in [
                words.join(" "),
                format!("  {}\n", words.join("\n").to_uppercase()),
                numbered.join("  "),
                backup(&key),
            ] {
                prop_assert_eq!(read(&text).map(|key| key.secret()), Ok(secret));
            }
        }

        #[test]
        fn another_order_is_found_out(secret: [u8; 32], first in 0..23usize) {
            let mut words = of(&AccountKey::from_secret(&secret));
            words.swap(first, first + 1);
            // One of 256 changes has the same checksum.
            if let Err(fault) = read(&words.join(" ")) {
                prop_assert_eq!(fault, WordsFault::Checksum);
            }
        }

        #[test]
        fn no_text_is_too_odd(text: String) {
            let _ = read(&text);
        }
    }

    #[test]
    fn the_words_are_those_that_other_programs_make() {
        let words = of(&AccountKey::from_secret(&[0; 32]));
        assert!(words[..23].iter().all(|word| word == "abandon"));
        assert_eq!(words[23], "art");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = of(&AccountKey::from_secret(&[7; 32]));
        let with = |place: usize, word: &str| {
            let mut words = good.clone();
            word.clone_into(&mut words[place]);
            read(&words.join(" ")).unwrap_err()
        };
        let unknown = |place, word: &str, nearest: &str| WordsFault::Unknown {
            place,
            word: word.to_owned(),
            nearest: nearest.to_owned(),
        };
        assert_eq!(with(2, "abandn"), unknown(3, "abandn", "abandon"));
        assert_eq!(with(23, "zoooo"), unknown(24, "zoooo", "zoo"));
        assert_eq!(
            with(0, "zoo").to_string().split(':').next(),
            Some("All words are right by themselves, but not together")
        );
        let long = "x".repeat(10_000);
        assert!(with(0, &long).to_string().len() < 200);
        for (text, found) in [
            (String::new(), 0),
            (good[1..].join(" "), 23),
            (format!("{} zoo", good.join(" ")), 25),
        ] {
            assert_eq!(read(&text).unwrap_err(), WordsFault::Count { found });
        }
    }
}
