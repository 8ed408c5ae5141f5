//! The fields that requests may have: those of `OpenAI`'s API and of what vLLM's and llama.cpp's
//! servers add to it.
//!
//! No field that would change the answer is passed over in silence. What is not read here is either
//! known to say nothing about the answer, or has a value that leaves the answer as it is, or is
//! refused by its name; so is what nobody here has heard of.

use serde_json::{Map, Value};

use super::ApiError;
use Endpoint::{Chat, Completions, Embeddings};
use Rule::{Harmless, Only, Read};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completions,
    Embeddings,
}

enum Rule {
    /// These endpoints read it.
    Read(&'static [Endpoint]),
    /// It says nothing about the answer.
    Harmless,
    /// It changes the answer unless its value is one of these.
    Only(fn(&Value) -> bool),
}

const ALL: &[Endpoint] = &[Chat, Completions, Embeddings];
const WRITING: &[Endpoint] = &[Chat, Completions];

/// In the order of their names.
const FIELDS: &[(&str, Rule)] = &[
    ("adaptive_decay", Harmless),
    ("adaptive_target", Only(below_zero)),
    ("add_bos_token", Only(none)),
    ("add_generation_prompt", Only(yes)),
    ("add_special_tokens", Only(none)),
    ("allowed_token_ids", Only(none)),
    ("audio", Only(none)),
    ("backend_sampling", Harmless),
    ("bad_words", Only(empty)),
    ("best_of", Only(one)),
    ("cache_prompt", Harmless),
    ("cache_salt", Harmless),
    ("chat_template", Only(none)),
    ("chat_template_kwargs", Only(empty)),
    ("continue_final_message", Only(no)),
    ("detokenize", Only(yes)),
    ("dimensions", Only(none)),
    ("documents", Only(empty)),
    ("dry_allowed_length", Harmless),
    ("dry_base", Harmless),
    ("dry_multiplier", Only(zero)),
    ("dry_penalty_last_n", Harmless),
    ("dry_sequence_breakers", Harmless),
    ("dynatemp_exponent", Harmless),
    ("dynatemp_range", Only(zero)),
    ("echo", Only(no)),
    ("embd_normalize", Only(two)),
    ("enable_thinking", Only(none)),
    ("encoding_format", Read(&[Embeddings])),
    ("format", Only(empty)),
    ("frequency_penalty", Only(zero)),
    ("function_call", Only(no_tool)),
    ("functions", Only(empty)),
    ("grammar", Only(empty)),
    ("guided_choice", Only(none)),
    ("guided_decoding_backend", Harmless),
    ("guided_grammar", Only(none)),
    ("guided_json", Only(none)),
    ("guided_regex", Only(none)),
    ("guided_whitespace_pattern", Harmless),
    ("id_slot", Harmless),
    ("ignore_eos", Only(no)),
    ("include_reasoning", Only(yes)),
    ("include_stop_str_in_output", Only(no)),
    ("infera", Read(ALL)),
    ("input", Read(&[Embeddings])),
    ("json_schema", Only(none)),
    ("keep_alive", Harmless),
    ("length_penalty", Only(one)),
    ("logit_bias", Only(empty)),
    ("logits_processors", Only(empty)),
    ("logprobs", Read(WRITING)),
    ("lora", Only(empty)),
    ("max_completion_tokens", Read(WRITING)),
    ("max_tokens", Read(WRITING)),
    ("messages", Read(&[Chat])),
    ("metadata", Harmless),
    ("min_keep", Only(zero)),
    ("min_p", Read(WRITING)),
    ("min_tokens", Only(zero)),
    ("mirostat", Only(zero)),
    ("mirostat_eta", Harmless),
    ("mirostat_tau", Harmless),
    ("modalities", Only(text_alone)),
    ("model", Read(ALL)),
    ("n", Read(WRITING)),
    ("n_keep", Harmless),
    ("n_predict", Only(none)),
    ("n_probs", Only(zero)),
    ("normalize", Only(yes)),
    ("options", Only(empty)),
    ("parallel_tool_calls", Harmless),
    ("parse_tool_calls", Harmless),
    ("post_sampling_probs", Only(no)),
    ("prediction", Only(none)),
    ("presence_penalty", Only(zero)),
    ("priority", Harmless),
    ("prompt", Read(&[Completions])),
    ("prompt_cache_key", Harmless),
    ("prompt_cache_retention", Harmless),
    ("prompt_embeds", Only(none)),
    ("prompt_logprobs", Only(none)),
    ("reasoning", Only(none)),
    ("reasoning_effort", Only(none)),
    ("reasoning_format", Only(as_written)),
    ("repeat_last_n", Harmless),
    ("repeat_penalty", Only(one)),
    ("repetition_penalty", Only(one)),
    ("request_id", Harmless),
    ("response_format", Only(plain_text)),
    ("return_progress", Harmless),
    ("return_token_ids", Only(no)),
    ("return_tokens", Only(no)),
    ("return_tokens_as_token_ids", Only(no)),
    ("safety_identifier", Harmless),
    ("samplers", Only(none)),
    ("seed", Read(WRITING)),
    ("service_tier", Harmless),
    ("skip_special_tokens", Only(yes)),
    ("spaces_between_special_tokens", Harmless),
    ("speculative.n_max", Harmless),
    ("speculative.n_min", Harmless),
    ("speculative.p_min", Harmless),
    ("stop", Read(WRITING)),
    ("stop_token_ids", Only(empty)),
    ("store", Harmless),
    ("stream", Read(WRITING)),
    ("stream_options", Read(WRITING)),
    ("structured_outputs", Only(none)),
    ("suffix", Only(empty)),
    ("temperature", Read(WRITING)),
    ("tfs_z", Only(one)),
    ("think", Only(none)),
    ("thinking", Only(none)),
    ("timings_per_token", Harmless),
    ("tool_choice", Only(no_tool)),
    ("tools", Only(empty)),
    ("top_k", Read(WRITING)),
    ("top_logprobs", Read(&[Chat])),
    ("top_n_sigma", Only(below_zero)),
    ("top_p", Read(WRITING)),
    ("truncate_prompt_tokens", Only(none)),
    ("typical_p", Only(one)),
    ("use_beam_search", Only(no)),
    ("user", Harmless),
    ("verbosity", Only(medium)),
    ("web_search_options", Only(none)),
    ("xtc_probability", Only(zero)),
    ("xtc_threshold", Harmless),
];

/// The fields of a message.
const MESSAGE_FIELDS: &[(&str, Rule)] = &[
    ("annotations", Harmless),
    ("audio", Only(empty)),
    ("cache_control", Harmless),
    ("content", Read(&[Chat])),
    ("function_call", Only(empty)),
    ("id", Harmless),
    ("name", Read(&[Chat])),
    // Templates leave the thoughts of earlier turns out.
    ("reasoning", Harmless),
    ("reasoning_content", Harmless),
    ("refusal", Harmless),
    ("role", Read(&[Chat])),
    ("tool_calls", Only(empty)),
    ("weight", Harmless),
];

/// Refuses the first field of a request that it may not have.
pub(super) fn check(fields: &Map<String, Value>, endpoint: Endpoint) -> Result<(), ApiError> {
    check_with(FIELDS, fields, endpoint, str::to_owned)
}

/// The same for a message, which counts from 0.
pub(super) fn check_message(fields: &Map<String, Value>, index: usize) -> Result<(), ApiError> {
    check_with(MESSAGE_FIELDS, fields, Chat, |name| {
        format!("messages[{index}].{name}")
    })
}

fn check_with(
    table: &[(&str, Rule)],
    fields: &Map<String, Value>,
    endpoint: Endpoint,
    full_name: impl Fn(&str) -> String,
) -> Result<(), ApiError> {
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let known = table
            .binary_search_by_key(&name.as_str(), |(known, _)| known)
            .map(|at| &table[at].1);
        match known {
            Ok(Harmless) => {}
            Ok(Read(endpoints)) if endpoints.contains(&endpoint) => {}
            Ok(Only(harmless)) if harmless(value) => {}
            Ok(Read(_) | Only(_)) => return Err(ApiError::unsupported(&full_name(name))),
            Err(_) => return Err(ApiError::unknown_parameter(&full_name(name))),
        }
    }
    Ok(())
}

fn none(_: &Value) -> bool {
    false
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn yes(value: &Value) -> bool {
    *value == Value::Bool(true)
}

fn no(value: &Value) -> bool {
    *value == Value::Bool(false)
}

fn is_number(value: &Value, wanted: f64) -> bool {
    value
        .as_f64()
        .is_some_and(|number| (number - wanted).abs() < f64::EPSILON)
}

fn zero(value: &Value) -> bool {
    is_number(value, 0.0)
}

fn one(value: &Value) -> bool {
    is_number(value, 1.0)
}

fn two(value: &Value) -> bool {
    is_number(value, 2.0)
}

fn below_zero(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number < 0.0)
}

fn no_tool(value: &Value) -> bool {
    value == "none"
}

fn medium(value: &Value) -> bool {
    value == "medium"
}

/// Thoughts stay in the text.
fn as_written(value: &Value) -> bool {
    value == "none"
}

fn text_alone(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items == &["text"])
}

fn plain_text(value: &Value) -> bool {
    value.get("type").is_some_and(|kind| kind == "text")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(endpoint: Endpoint, fields: Value) -> Result<(), (&'static str, String)> {
        let Value::Object(fields) = fields else {
            panic!("an object");
        };
        check(&fields, endpoint).map_err(|error| {
            assert_eq!(error.status, 400);
            let param = error.param.unwrap();
            assert!(error.message.contains(&param), "{}", error.message);
            (error.code.unwrap(), param)
        })
    }

    #[test]
    fn the_tables_are_in_order_and_name_each_field_once() {
        for table in [FIELDS, MESSAGE_FIELDS] {
            assert!(table.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        let fields = [
            ("tools", json!([{"type": "function"}])),
            ("tool_choice", json!("auto")),
            ("functions", json!([{}])),
            ("function_call", json!("auto")),
            ("response_format", json!({"type": "json_object"})),
            ("logit_bias", json!({"5": 1})),
            ("frequency_penalty", json!(0.5)),
            ("presence_penalty", json!(-0.5)),
            ("repetition_penalty", json!(1.1)),
            ("repeat_penalty", json!(1.3)),
            ("best_of", json!(2)),
            ("suffix", json!("x")),
            ("echo", json!(true)),
            ("audio", json!({})),
            ("modalities", json!(["text", "audio"])),
            ("prediction", json!({})),
            ("web_search_options", json!({})),
            ("min_tokens", json!(5)),
            ("ignore_eos", json!(true)),
            ("stop_token_ids", json!([5])),
            ("guided_json", json!({})),
            ("guided_regex", json!("a")),
            ("guided_choice", json!(["a"])),
            ("guided_grammar", json!("a")),
            ("structured_outputs", json!({"choice": ["a"]})),
            ("json_schema", json!({"type": "object"})),
            ("grammar", json!("root ::= \"a\"")),
            ("chat_template", json!("x")),
            ("chat_template_kwargs", json!({"enable_thinking": false})),
            ("reasoning_effort", json!("none")),
            ("enable_thinking", json!(false)),
            ("typical_p", json!(0.5)),
            ("tfs_z", json!(0.5)),
            ("mirostat", json!(2)),
            ("dry_multiplier", json!(0.8)),
            ("xtc_probability", json!(0.5)),
            ("dynatemp_range", json!(0.5)),
            ("top_n_sigma", json!(1)),
            ("bad_words", json!(["bear"])),
            ("allowed_token_ids", json!([5])),
            ("continue_final_message", json!(true)),
            ("add_generation_prompt", json!(false)),
            ("prompt_logprobs", json!(1)),
            ("use_beam_search", json!(true)),
            ("length_penalty", json!(2)),
            ("truncate_prompt_tokens", json!(5)),
            ("include_stop_str_in_output", json!(true)),
            ("skip_special_tokens", json!(false)),
            ("add_special_tokens", json!(true)),
            ("n_predict", json!(1)),
            ("n_probs", json!(5)),
            ("lora", json!([{"id": 0}])),
            ("samplers", json!(["top_k"])),
            ("verbosity", json!("low")),
            ("logits_processors", json!(["x"])),
            ("prompt_embeds", json!("x")),
            ("return_token_ids", json!(true)),
            ("format", json!("json")),
            ("options", json!({"temperature": 0})),
            ("think", json!(true)),
            ("thinking", json!({})),
            ("reasoning", json!({"effort": "low"})),
            ("dimensions", json!(5)),
            ("encoding_format", json!("float")),
            ("input", json!("x")),
            ("prompt", json!("x")),
        ];
        for (name, value) in fields {
            let refused = outcome(Chat, json!({name: value})).unwrap_err();
            assert_eq!(refused, ("unsupported_parameter", name.to_owned()));
        }
    }

    #[test]
    fn what_nobody_has_heard_of_is_refused_too() {
        let refused = ("unknown_parameter", "temprature".to_owned());
        for endpoint in ALL {
            let outcome = outcome(*endpoint, json!({"temprature": 0}));
            assert_eq!(outcome, Err(refused.clone()));
        }
    }

    #[test]
    fn values_that_change_nothing_pass() {
        for endpoint in ALL {
            let outcome = outcome(
                *endpoint,
                json!({
                    "tools": [], "tool_choice": "none", "functions": null, "logit_bias": {},
                    "response_format": {"type": "text"}, "frequency_penalty": 0,
                    "presence_penalty": 0.0, "repetition_penalty": 1, "repeat_penalty": 1.0,
                    "user": "u", "store": true, "metadata": {"a": "b"}, "modalities": ["text"],
                    "parallel_tool_calls": true, "add_generation_prompt": true, "mirostat": 0,
                    "cache_prompt": true, "never_heard_of": null, "top_n_sigma": -1,
                    "verbosity": "medium", "service_tier": "auto", "best_of": 1,
                }),
            );
            assert_eq!(outcome, Ok(()), "{endpoint:?}");
        }
    }

    #[test]
    fn an_endpoint_reads_its_own_fields_only() {
        assert_eq!(outcome(Embeddings, json!({"input": "x"})), Ok(()));
        let refused = |name: &str| Err(("unsupported_parameter", name.to_owned()));
        assert_eq!(
            outcome(Embeddings, json!({"temperature": 1})),
            refused("temperature")
        );
        assert_eq!(
            outcome(Completions, json!({"top_logprobs": 5})),
            refused("top_logprobs")
        );
    }

    #[test]
    fn messages_have_a_table_of_their_own() {
        let refused = |message: Value| {
            let error = check_message(message.as_object().unwrap(), 3).unwrap_err();
            (error.code.unwrap(), error.param.unwrap())
        };
        let unsupported = |name: &str| ("unsupported_parameter", format!("messages[3].{name}"));
        let calls = json!({"role": "assistant", "content": null, "tool_calls": [{}]});
        assert_eq!(refused(calls), unsupported("tool_calls"));
        let call = json!({"role": "assistant", "function_call": {"name": "f"}});
        assert_eq!(refused(call), unsupported("function_call"));
        let prefix = json!({"role": "assistant", "content": "a", "prefix": true});
        let unknown = ("unknown_parameter", "messages[3].prefix".to_owned());
        assert_eq!(refused(prefix), unknown);
        let whole = json!({
            "role": "assistant", "content": "a", "name": "n", "refusal": null, "tool_calls": [],
            "annotations": [], "audio": null, "reasoning_content": "hm",
        });
        check_message(whole.as_object().unwrap(), 0).unwrap();
    }
}
