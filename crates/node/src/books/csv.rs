//! The list of jobs as a CSV file (RFC 4180) that a spreadsheet opens safely.

use infera_protocol::node_api::WorkKind;
use jiff::Timestamp;

use super::JobRow;
use crate::store::to_word;

const HEADER: &str = "kind,id,attempt,model,model_id,input_tokens,output_tokens,tokens_per_second,\
                      started,finished,duration_seconds,verdict,reason,points,forfeited_points,\
                      device,network\r\n";

/// Times are ISO 8601 in UTC, points have a decimal point; what is unknown is empty.
pub(super) fn jobs(rows: &[JobRow]) -> String {
    let mut text = HEADER.to_owned();
    for row in rows {
        let record = &row.record;
        let duration = record
            .finished_ms
            .map(|finished| decimal(finished.saturating_sub(record.started_ms).max(0), 3));
        let kind = match record.kind {
            WorkKind::Job => "job",
            WorkKind::Audit => "audit",
        };
        let cells = [
            kind.to_owned(),
            cell(&record.id),
            record.attempt.to_string(),
            cell(&record.model_name),
            record.model.to_string(),
            record.input_tokens.to_string(),
            record.output_tokens.to_string(),
            row.tokens_per_second
                .map_or_else(String::new, |rate| format!("{rate:.2}")),
            time(record.started_ms),
            record.finished_ms.map_or_else(String::new, time),
            duration.unwrap_or_default(),
            to_word(&record.verdict),
            cell(&record.reason),
            decimal(record.points, 6),
            decimal(record.forfeited.unwrap_or(0), 6),
            cell(row.device.as_deref().unwrap_or_default()),
            cell(row.network.as_deref().unwrap_or_default()),
        ];
        text += &cells.join(",");
        text += "\r\n";
    }
    text
}

/// Text that came from elsewhere. A spreadsheet would take some beginnings for a formula and run
/// it, also after spaces; a quote mark before it makes it text.
fn cell(text: &str) -> String {
    let risky = |letter: char| matches!(letter, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n');
    let guard = if text.starts_with(risky) || text.trim_start().starts_with(risky) {
        "'"
    } else {
        ""
    };
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{guard}{text}")
    }
}

fn time(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

/// A whole number of small units as a decimal, without digits that say nothing.
fn decimal(units: i64, digits: u32) -> String {
    let base = 10u64.pow(digits);
    let sign = if units < 0 { "-" } else { "" };
    let (whole, part) = (units.unsigned_abs() / base, units.unsigned_abs() % base);
    let part = format!("{part:0width$}", width = digits as usize);
    let text = format!("{sign}{whole}.{part}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use infera_protocol::ModelId;
    use infera_protocol::node_api::{VerdictStatus, WorkRecord};

    use super::*;

    #[test]
    fn a_file_as_a_whole() {
        let row = JobRow {
            record: WorkRecord {
                kind: WorkKind::Job,
                id: "ab12".to_owned(),
                attempt: 1,
                model: ModelId::from_bytes([0xab; 32]),
                model_name: "=cmd|' /C calc'!A1".to_owned(),
                input_tokens: 3,
                output_tokens: 40,
                started_ms: 1_700_000_000_000,
                finished_ms: Some(1_700_000_001_500),
                verdict: VerdictStatus::SampledOut,
                reason: "He said \"no\",\nthen left".to_owned(),
                points: 4_200_000,
                forfeited: None,
                references: Vec::new(),
            },
            tokens_per_second: Some(26.666),
            device: Some("0000:01:00.0".to_owned()),
            network: Some("https://net.example".to_owned()),
        };
        let unfinished = JobRow {
            record: WorkRecord {
                model_name: "tiny".to_owned(),
                finished_ms: None,
                reason: String::new(),
                points: 0,
                forfeited: Some(1),
                ..row.record.clone()
            },
            tokens_per_second: None,
            device: None,
            network: None,
        };
        let model = "ab".repeat(32);
        assert_eq!(
            jobs(&[row, unfinished]),
            format!(
                "{HEADER}job,ab12,1,'=cmd|' /C calc'!A1,{model},3,40,26.67,\
                 2023-11-14T22:13:20.000Z,2023-11-14T22:13:21.500Z,1.5,sampled_out,\
                 \"He said \"\"no\"\",\nthen left\",4.2,0,0000:01:00.0,https://net.example\r\n\
                 job,ab12,1,tiny,{model},3,40,,2023-11-14T22:13:20.000Z,,,sampled_out,,0,0.000001,,\r\n"
            )
        );
    }

    #[test]
    fn no_text_is_a_formula() {
        for text in ["=1", "+1", "-1", "@a", "\tx", " =1", "\r=1"] {
            let guarded = cell(text);
            assert!(
                guarded.trim_start_matches('"').starts_with('\''),
                "{guarded}"
            );
        }
        for text in ["llama-3.2", "a=b", "", "über"] {
            assert_eq!(cell(text), text);
        }
    }

    #[test]
    fn points_are_exact_decimals() {
        for (micro, text) in [
            (0, "0"),
            (1, "0.000001"),
            (-1_500_000, "-1.5"),
            (10_000_000, "10"),
            (i64::MAX, "9223372036854.775807"),
            (i64::MIN, "-9223372036854.775808"),
        ] {
            assert_eq!(decimal(micro, 6), text);
        }
    }
}
