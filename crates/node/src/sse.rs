//! Server-sent events, parsed from bytes that may be split anywhere.

/// One event as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RawEvent {
    /// The id to resume after, if the stream has named one so far.
    pub(crate) id: Option<String>,
    pub(crate) data: String,
}

/// An event that is longer than any of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
pub(crate) struct EventTooLong;

pub(crate) const MAX_EVENT_BYTES: usize = 1 << 20;

/// Takes bytes as they come and gives events as they are complete.
#[derive(Debug, Default)]
pub(crate) struct SseParser {
    line: Vec<u8>,
    /// A carriage return was the last byte: a line feed now belongs to it.
    after_return: bool,
    started: bool,
    id: Option<String>,
    data: String,
    has_data: bool,
}

impl SseParser {
    /// The events that these bytes complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<RawEvent>, EventTooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_line(&line));
                }
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > MAX_EVENT_BYTES {
                return Err(EventTooLong);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &[u8]) -> Option<RawEvent> {
        let text = String::from_utf8_lossy(line);
        let mut text = text.as_ref();
        if !std::mem::replace(&mut self.started, true) {
            text = text.strip_prefix('\u{feff}').unwrap_or(text);
        }
        if text.is_empty() {
            let data = std::mem::take(&mut self.data);
            return std::mem::take(&mut self.has_data).then(|| RawEvent {
                id: self.id.clone(),
                data,
            });
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments have an empty field name; unknown fields are for others.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, data: &str) -> RawEvent {
        RawEvent {
            id: id.map(str::to_owned),
            data: data.to_owned(),
        }
    }

    #[test]
    fn streams_as_a_table_split_at_every_size() {
        let cases: [(&str, Vec<RawEvent>); 11] = [
            ("data: a\n\n", vec![event(None, "a")]),
            ("data:a\r\n\r\n", vec![event(None, "a")]),
            (
                "data: a\r\rdata: b\r\r",
                vec![event(None, "a"), event(None, "b")],
            ),
            (
                "id: 7\ndata: a\n\ndata: b\n\n",
                vec![event(Some("7"), "a"), event(Some("7"), "b")],
            ),
            ("data: a\ndata: b\n\n", vec![event(None, "a\nb")]),
            (": keep-alive\n\ndata: a\n\n", vec![event(None, "a")]),
            ("event: x\nretry: 5\ndata: a\n\n", vec![event(None, "a")]),
            ("data\n\n", vec![event(None, "")]),
            ("\u{feff}data: ä€😀\n\n", vec![event(None, "ä€😀")]),
            ("id: 1\n\n", vec![]),
            ("data: never ended\n", vec![]),
        ];
        for (text, expected) in cases {
            for size in 1..=text.len() {
                let mut parser = SseParser::default();
                let events: Vec<_> = text
                    .as_bytes()
                    .chunks(size)
                    .flat_map(|piece| parser.push(piece).unwrap())
                    .collect();
                assert_eq!(events, expected, "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = SseParser::default();
        let mut result = Ok(Vec::new());
        for _ in 0..=MAX_EVENT_BYTES / 1024 {
            result = parser.push(&[b'x'; 1024]);
        }
        assert_eq!(result, Err(EventTooLong));
    }
}
