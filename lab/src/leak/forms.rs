//! The forms in which a key may turn up, and undoing what transport does to text.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// `INTEGER 1, OCTET STRING`: what precedes the secret number of a key on an elliptic curve (RFC 5915), its length next.
const SCALAR: [u8; 4] = [2, 1, 1, 4];

/// Of other keys the end is sought: RSA's last numbers, Ed25519's seed.
const TAIL: usize = 48;

/// A piece of text as short as this would be found by chance.
const SHORTEST: usize = 16;

/// The secret part of a key, given the lines of its PEM body.
pub(super) fn core_of(lines: &[String]) -> Vec<u8> {
    let der = decoded(&lines.concat());
    der.get(secret_part(&der)).unwrap_or_default().to_vec()
}

/// Every form of a key's secret part.
pub(super) fn forms_of(lines: &[String]) -> Vec<(&'static str, Vec<u8>)> {
    let text = lines.concat();
    let der = decoded(&text);
    let part = secret_part(&der);
    let Some(core) = der.get(part.clone()).filter(|core| core.len() >= SHORTEST) else {
        // What is not base64 was never a key; if a PEM says it is one, it is sought as it stands.
        return vec![("pem", text.into_bytes())];
    };
    let mut forms = vec![("der", core.to_vec())];
    for separator in ["", ":"] {
        let hex = |upper| core.iter().map(|byte| hex(*byte, upper)).collect::<Vec<_>>().join(separator).into_bytes();
        forms.extend([("hex", hex(false)), ("hex", hex(true))]);
    }
    forms.push(("decimal", core.iter().map(u8::to_string).collect::<Vec<_>>().join(",").into_bytes()));
    forms.extend(embedded(core).into_iter().map(|form| ("base64", form)));
    for piece in pieces(lines, &part) {
        forms.extend(embedded(piece.as_bytes()).into_iter().map(|form| ("base64 of pem", form)));
        forms.push(("base64", piece.into_bytes()));
    }
    let to_its_end = text.get(..part.end * 4 / 3).unwrap_or(&text);
    forms.push(("pem", format!("PRIVATEKEY-----{to_its_end}").into_bytes()));
    forms
}

/// Where the secret lies: a curve's number, else the end.
fn secret_part(der: &[u8]) -> Range<usize> {
    let number = memchr::memmem::find(der, &SCALAR).and_then(|at| {
        let begin = at + SCALAR.len() + 1;
        let length = usize::from(*der.get(begin - 1)?);
        (length >= SHORTEST && begin + length <= der.len()).then_some(begin..begin + length)
    });
    number.unwrap_or(der.len().saturating_sub(TAIL)..der.len())
}

/// The base64 of `bytes` within something longer, whose beginning may have any length: three alignments, two alphabets;
/// characters that hold bits of the neighbours are left out.
fn embedded(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for (before, skip) in [(0, 0), (1, 2), (2, 3)] {
        let shifted = [&vec![0; before], bytes].concat();
        let whole = shifted.len() * 8 / 6;
        for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.push(text.as_bytes().get(skip..whole).unwrap_or_default().to_vec());
        }
    }
    forms
}

/// The pieces of the PEM's lines that hold nothing but the secret part.
fn pieces(lines: &[String], part: &Range<usize>) -> Vec<String> {
    let (begin, end) = ((part.start * 8).div_ceil(6), part.end * 8 / 6);
    let mut pieces = Vec::new();
    let mut at = 0;
    for line in lines {
        let within = begin.saturating_sub(at).min(line.len())..end.saturating_sub(at).min(line.len());
        pieces.extend(line.get(within).filter(|piece| piece.len() >= SHORTEST).map(str::to_owned));
        at += line.len();
    }
    pieces
}

fn hex(byte: u8, upper: bool) -> String {
    if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }
}

fn decoded(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap_or_default()
}

/// `content` without what text gains on its way: white space, JSON's escapes (of escapes), percent signs, XML's line ends.
pub(super) fn undone(content: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some((byte, after)) = rest.split_first() {
        let (kept, left) = match byte {
            b'%' => percent(after),
            b'\\' => escape(after),
            b'&' => line_end(after),
            other => (Some(*other), after),
        };
        plain.extend(kept.filter(|byte| !byte.is_ascii_whitespace()));
        rest = left;
    }
    plain
}

fn percent(after: &[u8]) -> (Option<u8>, &[u8]) {
    let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
    match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
        Some(byte) => (Some(byte), after.get(2..).unwrap_or_default()),
        None => (Some(b'%'), after),
    }
}

fn escape(after: &[u8]) -> (Option<u8>, &[u8]) {
    let run = after.iter().take_while(|byte| **byte == b'\\').count();
    let after = after.get(run..).unwrap_or_default();
    match after.split_first() {
        Some((b'n' | b'r' | b't', after)) => (None, after),
        Some((b'u', digits)) => {
            let code = digits.get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
            match code.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
                Some(code) => (u8::try_from(code).ok(), digits.get(4..).unwrap_or_default()),
                None => (None, after),
            }
        }
        Some(_) | None => (None, after),
    }
}

fn line_end(after: &[u8]) -> (Option<u8>, &[u8]) {
    for reference in [b"#10;".as_slice(), b"#13;", b"#xA;", b"#xD;", b"#xa;", b"#xd;"] {
        if let Some(after) = after.strip_prefix(reference) {
            return (None, after);
        }
    }
    (Some(b'&'), after)
}
