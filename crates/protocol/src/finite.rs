//! Numbers of messages that must be finite: JSON has no others, and one beyond `f32` would become
//! infinite when it is read, and nothing when it is written again.

use serde::de::{Deserialize, Deserializer, Error};

/// For `#[serde(deserialize_with)]`.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    checked(f32::deserialize(deserializer)?)
}

/// As [`number`], or none.
pub fn number_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
    let number = Option::<f32>::deserialize(deserializer)?;
    number.map(checked).transpose()
}

/// Tokens with a number each.
pub fn of_tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(u32, f32)>, D::Error> {
    let tokens = Vec::<(u32, f32)>::deserialize(deserializer)?;
    for (_, number) in &tokens {
        checked::<D::Error>(*number)?;
    }
    Ok(tokens)
}

fn checked<E: Error>(number: f32) -> Result<f32, E> {
    if number.is_finite() {
        Ok(number)
    } else {
        Err(E::custom("a number is beyond those of 32-bit floats"))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Mismatch, Sampling, TokenOutput};

    #[test]
    fn what_would_become_infinite_is_refused() {
        for number in ["1e39", "-1e39", "3.5e38"] {
            let token = format!("{{\"id\":1,\"logprob\":{number}}}");
            assert!(serde_json::from_str::<TokenOutput>(&token).is_err());
            let token = format!("{{\"id\":1,\"alternatives\":[[2,{number}]]}}");
            assert!(serde_json::from_str::<TokenOutput>(&token).is_err());
            let mismatch = format!("{{\"position\":0,\"token\":1,\"margin\":{number}}}");
            assert!(serde_json::from_str::<Mismatch>(&mismatch).is_err());
            let sampling =
                format!("{{\"temperature\":{number},\"top_k\":1,\"top_p\":1,\"min_p\":0}}");
            assert!(serde_json::from_str::<Sampling>(&sampling).is_err());
        }
        let token = "{\"id\":1,\"logprob\":-3.4028235e38,\"alternatives\":[[2,-1]]}";
        let token: TokenOutput = serde_json::from_str(token).unwrap();
        assert_eq!(token.logprob, Some(f32::MIN));
        assert_eq!(token.alternatives, [(2, -1.0)]);
        let token: TokenOutput = serde_json::from_str("{\"id\":1,\"logprob\":null}").unwrap();
        assert_eq!(token.logprob, None);
    }
}
