//! Numerics profiles: in which precision a model is computed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What all nodes that serve a model have in common in their arithmetic. It is part of the model's
/// id, so that answers are compared only with those of the same profile.
///
/// In each, weights are as quantised in the file, and activations and accumulation in `f32`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum Profile {
    /// The KV cache in `f32`.
    #[default]
    P32,
    /// The KV cache in `f16`: half the memory for each token of context.
    P16,
}

impl Profile {
    /// All there are, the most exact first.
    pub const ALL: [Self; 2] = [Self::P32, Self::P16];

    /// Its name in text and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::P32 => "P32",
            Self::P16 => "P16",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A text that names no profile.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no numerics profile of this name: choose {}", Profile::ALL.map(Profile::name).join(" or "))]
pub struct UnknownProfile;

impl FromStr for Profile {
    type Err = UnknownProfile;

    /// In upper or lower case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name().eq_ignore_ascii_case(text))
            .ok_or(UnknownProfile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_survive_text_and_json() {
        for profile in Profile::ALL {
            let name = profile.to_string();
            assert_eq!(name.parse(), Ok(profile));
            assert_eq!(name.to_lowercase().parse(), Ok(profile));
            let json = serde_json::to_string(&profile).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Profile>(&json).unwrap(), profile);
        }
        assert_eq!(Profile::default(), Profile::P32);
    }

    #[test]
    fn what_is_no_profile_is_told_which_there_are() {
        for text in ["", "16", "p8", "P 16", "f16"] {
            let error = text.parse::<Profile>().unwrap_err().to_string();
            assert!(error.ends_with("choose P32 or P16"), "{error}");
        }
    }
}
