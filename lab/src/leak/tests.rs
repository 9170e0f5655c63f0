//! Keys in every form, and what must not be taken for one.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::*;

/// PKCS#8 of a P-256 key whose secret number is e0 e1 ... ff (its base64 has both odd characters), then the public point
/// 40 41 ... 7f.
fn der() -> Vec<u8> {
    let mut der =
        vec![0x30, 0x81, 0x87, 2, 1, 0, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86];
    der.extend([0x48, 0xce, 0x3d, 3, 1, 7, 4, 0x6d, 0x30, 0x6b, 2, 1, 1, 4, 0x20]);
    der.extend(0xe0..=0xff);
    der.extend([0xa1, 0x44, 3, 0x42, 0, 4]);
    der.extend(0x40..0x80);
    der
}

fn wrapped(text: &str, width: usize, end: &str) -> String {
    text.as_bytes().chunks(width).map(|line| String::from_utf8(line.to_vec()).unwrap() + end).collect()
}

fn pem_of(der: &[u8]) -> String {
    let body = wrapped(&STANDARD.encode(der), 64, "\n");
    format!("-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n")
}

fn found(content: impl AsRef<[u8]>) -> Vec<&'static str> {
    let mut search = Search::new(&[Secret { name: "leaf 1".into(), pem: pem_of(&der()) }]).unwrap();
    assert_eq!(search.keys(), 1);
    search.look("a log", content.as_ref());
    search.leaks().into_iter().map(|leak| leak.form).collect()
}

#[test]
fn finds_bytes_and_their_digits() {
    assert_eq!(found([b"..", der().as_slice(), b".."].concat()), ["der"]);
    let digits = |separator: &str| der().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(separator);
    assert_eq!(found(digits("")), ["hex"]);
    assert_eq!(found(digits("").to_uppercase()), ["hex"]);
    // As `openssl pkey -text` prints it.
    assert_eq!(found(wrapped(&digits(":"), 45, "\n    ")), ["hex"]);
    assert_eq!(found(format!("Key({:?})", der())), ["decimal"]);
    assert_eq!(found(format!("{:#?}", der())), ["decimal"]);
}

#[test]
fn finds_pem_however_it_was_escaped() {
    let pem = pem_of(&der());
    assert_eq!(found(&pem), ["base64", "pem"]);
    let mut text = pem;
    for _ in 0..4 {
        text = serde_json::Value::String(text).to_string();
        assert!(found(&text).contains(&"pem"), "{text}");
    }
    let sdk = pem_of(&der()).replace('+', "\\u002b").replace('/', "\\/").replace('\n', "\\u000a");
    assert!(found(sdk).contains(&"pem"));
    let form: String = pem_of(&der()).bytes().map(|byte| format!("%{byte:02X}")).collect();
    assert!(found(form).contains(&"pem"));
    assert!(found(pem_of(&der()).replace('\n', "&#xA;")).contains(&"pem"));
}

#[test]
fn finds_base64_of_any_wrapping_alphabet_and_alignment() {
    for before in 0..4 {
        let bytes = [vec![0xfb; before], der(), vec![0xff; 5]].concat();
        for text in [STANDARD.encode(&bytes), URL_SAFE.encode(&bytes)] {
            assert!(found(&text).contains(&"base64"), "{before}: {text}");
            for width in [20, 64, 76] {
                assert!(found(wrapped(&text, width, "\r\n")).contains(&"base64"), "{before}, {width}");
                assert!(found(wrapped(&text, width, "\\n")).contains(&"base64"), "{before}, {width}");
            }
        }
    }
}

#[test]
fn finds_base64_of_pem_at_any_alignment() {
    for before in 0..4 {
        for (old, new) in [("\n", "\n"), ("\n", "\\n"), ("\n", "\r\n"), ("\n", "")] {
            let inner = format!("{}{}", "x".repeat(before), pem_of(&der()).replace(old, new));
            for text in [STANDARD.encode(&inner), URL_SAFE.encode(&inner), wrapped(&STANDARD.encode(&inner), 76, "\n")]
            {
                assert!(found(&text).contains(&"base64 of pem"), "{before}, {new:?}: {text}");
            }
        }
    }
}

#[test]
fn finds_a_line_of_pem_between_a_loggers_prefixes() {
    let log: String = pem_of(&der()).lines().map(|line| format!("2026-11-21T00:00:00Z INFO {line}\n")).collect();
    assert!(found(log).contains(&"base64"));
}

#[test]
fn a_public_key_is_no_leak() {
    assert!(found("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----").is_empty());
    let public: Vec<u8> = (0x40..0x80).collect();
    for before in 0..3 {
        let certificate = [vec![1; before], public.clone()].concat();
        assert!(found(STANDARD.encode(&certificate)).is_empty());
        assert!(found(&certificate).is_empty());
    }
    // Its beginning is every key's beginning.
    assert!(found(STANDARD.encode(&der()[..36])).is_empty());
}

#[test]
fn an_unknown_key_is_found_by_its_marker_and_a_known_one_is_not_called_unknown() {
    assert_eq!(found("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIAABAgMEBQYHCAkKCwwNDg8Q"), ["marker"]);
    assert_eq!(found(r"-----BEGIN PRIVATE KEY-----\nMHcCAQEEIAABAgMEBQYHCAkKCwwNDg8Q"), ["marker"]);
    assert!(found("/^-----BEGIN ([A-Z]+ )?PRIVATE KEY-----$/").is_empty());
    let mut other = der();
    other[36..68].iter_mut().for_each(|byte| *byte ^= 0x55);
    assert_eq!(found(pem_of(&other)).last(), Some(&"marker"));
    assert!(!found(pem_of(&der())).contains(&"marker"));
}

#[test]
fn other_kinds_of_keys_are_sought_by_their_end() {
    let rsa: Vec<u8> = (0..600_u32).map(|number| u8::try_from(number * 7 % 251).unwrap()).collect();
    let pem = pem_of(&rsa).replace("PRIVATE", "RSA PRIVATE");
    let mut search = Search::new(&[Secret { name: "rsa".into(), pem }]).unwrap();
    search.look("hex", rsa.iter().map(|byte| format!("{byte:02x}")).collect::<String>().as_bytes());
    search.look("base64", STANDARD.encode(&rsa).as_bytes());
    let places: Vec<String> = search.leaks().into_iter().map(|leak| leak.place).collect();
    assert_eq!(places, ["base64", "hex"]);
}

#[test]
fn keys_are_taken_out_of_requests_once_each() {
    let bundle = format!("{}-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", pem_of(&der()));
    let put = serde_json::json!({"Name": "/espalier-leaf/a/shared/1", "Value": bundle, "Type": "SecureString"});
    let secret = serde_json::json!({"SecretString": put.to_string()});
    let mut keys = keys_in("leaf", put.to_string().as_bytes());
    keys.extend(keys_in("authority", secret.to_string().as_bytes()));
    keys.extend(keys_in("file", bundle.as_bytes()));
    assert_eq!(keys.len(), 3);
    assert_eq!(Search::new(&keys).unwrap().keys(), 1, "one key, seen three times");
    assert!(keys_in("none", b"-----BEGIN CERTIFICATE-----").is_empty());
}

#[test]
fn a_word_of_its_own_is_found_in_every_form_too() {
    let passphrase = "kX9-long_and-random_enough_to_be_one-of-them";
    let found = |content: String| {
        let mut search = Search::new(&[word("a passphrase", passphrase)]).unwrap();
        search.look("a log", content.as_bytes());
        search.leaks().len()
    };
    let hex: String = passphrase.bytes().map(|byte| format!("{byte:02x}")).collect();
    for form in [passphrase.to_owned(), format!("{{\"Passphrase\":\"{}\"}}", STANDARD.encode(passphrase)), hex] {
        assert_eq!(found(format!("before {form} after")), 1, "{form}");
    }
    assert_eq!(found("long and random".to_owned()), 0);
}

/// Keys beyond what one compiled search may weigh are sought by several, and every one of them is still found; where not
/// even that can be, there is an error and no search that finds nothing.
#[test]
fn more_keys_than_one_search_holds_blind_none_of_it() {
    let keys: Vec<(Vec<u8>, Secret)> = (0..40_u8)
        .map(|number| {
            let mut key = der();
            key[36..68].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(2 * number + 3));
            let secret = Secret { name: number.to_string(), pem: pem_of(&key) };
            (key, secret)
        })
        .collect();
    let secrets: Vec<Secret> = keys.iter().map(|(_, secret)| secret.clone()).collect();
    let mut search = Search::within(&secrets, 64 << 10).unwrap();
    assert!(search.known.len() > 1, "the limit is one that a single search would exceed");
    for (key, secret) in &keys {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        for content in [key.clone(), hex.into_bytes(), STANDARD.encode(key).into_bytes()] {
            search.look(&secret.name, &content);
        }
    }
    let found: Vec<(String, String, &str)> =
        search.leaks().into_iter().map(|leak| (leak.place, leak.secret, leak.form)).collect();
    for (_, Secret { name, .. }) in &keys {
        for form in ["base64", "der", "hex"] {
            assert!(found.contains(&(name.clone(), name.clone(), form)), "key {name} as {form}: {found:?}");
        }
    }
    let error = Search::within(&secrets, 16).unwrap_err();
    assert!(matches!(error, SearchError::Needles { needles: 1, .. }), "{error:?}");
}
