//! What electricity costs its owner, as they write it.

#![deny(missing_docs)]

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// What a kilowatt-hour costs here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Electricity {
    /// None until the owner has told it: then nothing is said of money.
    #[ts(as = "Option<String>")]
    pub price_per_kwh: Option<Price>,
    /// What the price is in.
    #[ts(as = "String")]
    pub currency: Currency,
}

/// An amount of money as a person wrote it: `0.32`, `0.30`. Between what is written and what is
/// shown there is no binary fraction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Price(String);

/// Three letters as in ISO 4217: `EUR`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(String);

/// Why something is no tariff.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TariffError {
    /// No amount, a negative one, or one beyond all prices.
    #[error(
        "`{0}` is no price of a kilowatt-hour: write it as 0.32, with at most {MOST_DECIMALS} decimals and below one billion"
    )]
    Price(String),
    /// Not three letters.
    #[error("`{0}` is no currency: write its three letters, as EUR")]
    Currency(String),
}

const MOST_DIGITS: usize = 9;
const MOST_DECIMALS: usize = 6;
/// Parts of a currency's unit that a price is counted in.
const PARTS: u64 = 1_000_000;

impl Price {
    /// With a point or a comma.
    pub fn parse(text: &str) -> Result<Self, TariffError> {
        let written = text.trim().replacen(',', ".", 1);
        let (whole, decimals) = written.split_once('.').unwrap_or((&written, "0"));
        let digits = |part: &str, most| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if digits(whole, MOST_DIGITS) && digits(decimals, MOST_DECIMALS) {
            Ok(Self(written))
        } else {
            Err(TariffError::Price(text.to_owned()))
        }
    }

    /// In millionths of the currency's unit.
    pub fn micro(&self) -> u64 {
        let (whole, decimals) = self.0.split_once('.').unwrap_or((&self.0, ""));
        // Only digits are in it, and few of them.
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        number(whole) * PARTS + number(&format!("{decimals:0<MOST_DECIMALS$}"))
    }
}

impl Currency {
    /// In any case.
    pub fn parse(text: &str) -> Result<Self, TariffError> {
        let code = text.trim().to_ascii_uppercase();
        if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
            Ok(Self(code))
        } else {
            Err(TariffError::Currency(text.to_owned()))
        }
    }

    /// Its three letters.
    pub fn code(&self) -> &str {
        &self.0
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self("EUR".to_owned())
    }
}

/// As JSON has it: a command line writes a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Number(serde_json::Number),
}

impl TryFrom<Written> for Price {
    type Error = TariffError;

    fn try_from(written: Written) -> Result<Self, TariffError> {
        match written {
            Written::Text(text) => Self::parse(&text),
            // The shortest decimal that is this number: what was written.
            Written::Number(number) => Self::parse(&number.to_string()),
        }
    }
}

impl From<Price> for String {
    fn from(price: Price) -> Self {
        price.0
    }
}

impl TryFrom<String> for Currency {
    type Error = TariffError;

    fn try_from(text: String) -> Result<Self, TariffError> {
        Self::parse(&text)
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_price_is_kept_as_it_was_written() {
        let cases = [
            (json!("0.32"), "0.32", 320_000),
            (json!("0.30"), "0.30", 300_000),
            (json!(" 0,32 "), "0.32", 320_000),
            (json!(0.32), "0.32", 320_000),
            (json!(0.1), "0.1", 100_000),
            (json!(0), "0", 0),
            (json!(30), "30", 30_000_000),
            (json!("1444.7"), "1444.7", 1_444_700_000),
            (json!("0.000001"), "0.000001", 1),
            (
                json!("999999999.999999"),
                "999999999.999999",
                999_999_999_999_999,
            ),
        ];
        for (json, text, micro) in cases {
            let price: Price = serde_json::from_value(json.clone()).unwrap();
            assert_eq!(serde_json::to_value(&price).unwrap(), json!(text), "{json}");
            assert_eq!(price.micro(), micro, "{json}");
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for bad in [
            json!(""),
            json!("-0.32"),
            json!(-1),
            json!("0.32 EUR"),
            json!("1,234.5"),
            json!(".3"),
            json!("3."),
            json!("1e3"),
            json!("NaN"),
            json!(1e-7),
            json!("1000000000"),
            json!("0.1234567"),
            json!("٣"),
            json!(true),
            json!([1]),
        ] {
            assert!(
                serde_json::from_value::<Price>(bad.clone()).is_err(),
                "{bad}"
            );
        }
        let error = serde_json::from_value::<Price>(json!("much")).unwrap_err();
        assert!(error.to_string().contains("write it as 0.32"), "{error}");
    }

    #[test]
    fn currencies_as_a_table() {
        for (text, code) in [
            ("EUR", Some("EUR")),
            (" usd ", Some("USD")),
            ("€", None),
            ("EURO", None),
            ("E1R", None),
            ("", None),
        ] {
            let currency = Currency::parse(text).ok();
            assert_eq!(currency.as_ref().map(Currency::code), code, "{text}");
        }
    }
}
