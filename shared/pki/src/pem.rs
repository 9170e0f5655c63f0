//! PEM, strictly: known labels, nothing before, between or after the blocks (RFC 7468, strict grammar).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of a PKCS#8 private key.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";

const LINE: usize = 64;

/// Text that is not PEM as it should be. Never quotes the text: it may hold a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPem {
    /// A line stands outside of any block.
    #[error("line {line} is outside of any block")]
    Outside {
        /// Counted from 1.
        line: usize,
    },
    /// A block is not closed by the line that belongs to it.
    #[error("the block that begins in line {line} is not closed")]
    Open {
        /// Counted from 1.
        line: usize,
    },
    /// A block's content is not base64.
    #[error("the block that begins in line {line} is not base64")]
    Base64 {
        /// Counted from 1.
        line: usize,
    },
    /// The labels are not the expected ones.
    #[error("the blocks are not {expected}")]
    Labels {
        /// What was expected, for a person.
        expected: &'static str,
    },
}

/// One block. Its content is wiped when dropped, whatever it is.
pub struct Block {
    /// What stands between `BEGIN` and the dashes.
    pub label: String,
    /// The content.
    pub der: Zeroizing<Vec<u8>>,
}

/// One block as text, in lines of 64 characters, ending in a line feed.
pub fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    // Room for all of it from the start: growing would leave copies of a key behind.
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / LINE + 2 * label.len() + 64));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// Every block of a text that consists of nothing else.
pub fn decode(text: &str) -> Result<Vec<Block>, BadPem> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_end()));
    while let Some((begin, line)) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let label = line
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"))
            .ok_or(BadPem::Outside { line: begin })?;
        let end = format!("-----END {label}-----");
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        loop {
            match lines.next() {
                None => return Err(BadPem::Open { line: begin }),
                Some((_, line)) if line == end => break,
                Some((_, line)) if line.starts_with("-----") => return Err(BadPem::Open { line: begin }),
                Some((_, line)) => body.push_str(line),
            }
        }
        let der = STANDARD.decode(body.as_bytes()).map_err(|_| BadPem::Base64 { line: begin })?;
        blocks.push(Block { label: label.to_owned(), der: Zeroizing::new(der) });
    }
    Ok(blocks)
}

/// The certificates of a text that holds nothing else, at least one.
pub fn certificates(text: &str) -> Result<Vec<Vec<u8>>, BadPem> {
    let blocks = decode(text)?;
    if blocks.is_empty() || blocks.iter().any(|block| block.label != CERTIFICATE) {
        return Err(BadPem::Labels { expected: "one or more certificates" });
    }
    Ok(blocks.into_iter().map(|block| block.der.to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_at_any_length() {
        for length in [0, 1, 47, 48, 49, 96, 1_000] {
            let der: Vec<u8> = (0..length).map(|n: usize| n as u8).collect();
            let text = encode(CERTIFICATE, &der);
            assert!(text.lines().all(|line| line.len() <= LINE), "{length}");
            let blocks = decode(&text).unwrap();
            assert_eq!((blocks.len(), blocks[0].label.as_str(), &*blocks[0].der), (1, CERTIFICATE, &der), "{length}");
        }
    }

    #[test]
    fn nothing_may_stand_beside_the_blocks() {
        let good = encode(CERTIFICATE, b"x").to_string();
        let refused = |text: String| decode(&text).map(|blocks| blocks.len()).unwrap_err();
        assert_eq!(refused(format!("subject=x\n{good}")), BadPem::Outside { line: 1 });
        assert_eq!(refused(format!("{good}x\n")), BadPem::Outside { line: 4 });
        assert_eq!(refused(good.replace("-----END CERTIFICATE-----", "")), BadPem::Open { line: 1 });
        assert_eq!(refused(good.replace("END CERTIFICATE", "END KEY")), BadPem::Open { line: 1 });
        assert_eq!(refused(good.replace("eA==", "e*==")), BadPem::Base64 { line: 1 });
        assert_eq!(decode("\n").unwrap().len(), 0);
        assert!(certificates("").is_err() && certificates(&encode(PRIVATE_KEY, b"x")).is_err());
        assert_eq!(certificates(&format!("{good}\r\n{good}")).unwrap().len(), 2);
    }
}
