//! Leaves as somebody in a hurry makes them: by the openssl command with the authority's key, and no lint.

use std::process::Command;

use espalier_pki::inspect;
use espalier_pki::issue::Signer as _;
use espalier_pki::key::PublicKey;
use espalier_pki::lint::{self, Order, Parties};
use espalier_pki::pem;
use espalier_pki::profile::{Purpose, Serial};

use crate::made::{Folder, Leaf, NAME, policy, request};

/// A way of being careless.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    subject: &'static str,
    key: &'static [&'static str],
    serial: Option<&'static str>,
    days: &'static str,
    digest: &'static str,
    extensions: &'static str,
    /// The name that a verifier asks for.
    asked: &'static str,
}

const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const GOOD: &str = "subjectAltName=critical,DNS:api.example.com\nbasicConstraints=critical,CA:FALSE\n\
    keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\n\
    authorityKeyIdentifier=keyid\n";

const fn variant(name: &'static str, extensions: &'static str) -> Variant {
    Variant { name, subject: "/", key: P256, serial: None, days: "1", digest: "-sha256", extensions, asked: NAME }
}

/// All of them; the first one is none.
pub(crate) const VARIANTS: &[Variant] = &[
    variant("as-it-should-be", GOOD),
    Variant {
        subject: "/CN=api.example.com",
        serial: Some("2"),
        days: "825",
        ..variant("by-the-book-of-2010", "subjectAltName=DNS:api.example.com\n")
    },
    Variant {
        asked: "api.example.org",
        ..variant(
            "outside-the-constraint",
            "subjectAltName=critical,DNS:api.example.org\nbasicConstraints=critical,CA:FALSE\n\
             keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\n\
             authorityKeyIdentifier=keyid\n",
        )
    },
    variant(
        "an-authority",
        "subjectAltName=critical,DNS:api.example.com\nbasicConstraints=critical,CA:TRUE\n\
         keyUsage=critical,digitalSignature,keyCertSign\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\n\
         authorityKeyIdentifier=keyid\n",
    ),
    variant(
        "for-every-purpose",
        "subjectAltName=critical,DNS:api.example.com\nbasicConstraints=critical,CA:FALSE\n\
         keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth,codeSigning\n\
         subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
    ),
    variant(
        "a-wildcard",
        "subjectAltName=critical,DNS:*.example.com\nbasicConstraints=critical,CA:FALSE\n\
         keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\n\
         authorityKeyIdentifier=keyid\n",
    ),
    variant(
        "an-address-beside-the-name",
        "subjectAltName=critical,DNS:api.example.com,IP:10.0.0.1\nbasicConstraints=critical,CA:FALSE\n\
         keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\n\
         authorityKeyIdentifier=keyid\n",
    ),
    variant(
        "key-transport",
        "subjectAltName=critical,DNS:api.example.com\nbasicConstraints=critical,CA:FALSE\n\
         keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\n\
         authorityKeyIdentifier=keyid\n",
    ),
    variant(
        "no-key-identifiers",
        "subjectAltName=critical,DNS:api.example.com\nbasicConstraints=critical,CA:FALSE\n\
         keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=none\n\
         authorityKeyIdentifier=none\n",
    ),
    variant(
        "an-extension-of-its-own",
        "subjectAltName=critical,DNS:api.example.com\nbasicConstraints=critical,CA:FALSE\n\
         keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\n\
         authorityKeyIdentifier=keyid\nnsComment=hello\n",
    ),
    Variant { days: "31", ..variant("a-month-and-a-day", GOOD) },
    Variant { digest: "-sha1", ..variant("sha-1", GOOD) },
    Variant { key: &["rsa:1024"], ..variant("rsa-1024", GOOD) },
    Variant { key: &["ec", "-pkeyopt", "ec_paramgen_curve:P-521"], ..variant("p-521", GOOD) },
];

fn drawn() -> Serial {
    Serial::from_entropy([0x5a; 16])
}

/// Has it made and signed by OpenSSL.
pub(crate) fn make(folder: &Folder, variant: &Variant) -> Leaf {
    let at = folder.path();
    std::fs::write(at.join("ca.key"), folder.authority.to_secret().expose()).unwrap();
    std::fs::write(at.join("ext"), variant.extensions).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(at).output().unwrap();
        assert!(output.status.success(), "{}: {}", variant.name, String::from_utf8_lossy(&output.stderr));
    };
    let mut ask = vec!["req", "-newkey"];
    ask.extend_from_slice(variant.key);
    ask.extend_from_slice(&["-nodes", "-keyout", "leaf.key", "-subj", variant.subject, "-out", "request"]);
    run(&ask);
    let serial = variant.serial.map_or_else(|| format!("0x{}", drawn().text()), str::to_owned);
    let sign = ["x509", "-req", "-in", "request", "-CA", "issuing.pem", "-CAkey", "ca.key", "-extfile", "ext"];
    let how = ["-days", variant.days, variant.digest, "-set_serial", &serial, "-out", "signed"];
    run(&[&sign[..], &how].concat());
    let text = std::fs::read_to_string(at.join("signed")).unwrap();
    let der = pem::certificates(&text).unwrap().remove(0);
    Leaf { der, name: variant.asked.to_owned(), at: folder.now + time::Duration::minutes(1) }
}

/// What our lint would have said before it was signed.
pub(crate) fn lint(folder: &Folder, leaf: &Leaf) -> Vec<String> {
    let facts = inspect::facts(&leaf.der).unwrap();
    // A key of another kind does not even become a `PublicKey`; the lint is asked all the same, with another's.
    let (subject, mut said) = match PublicKey::from_spki(&key_info(&leaf.der)) {
        Ok(key) => (key, Vec::new()),
        Err(error) => (folder.authority.signer().public_key().clone(), vec![error.to_string()]),
    };
    let now = facts.not_before + time::Duration::SECOND;
    let (request, policy) = (request(Purpose::Server, now, drawn()), policy());
    let above = folder.authority.issuing_facts();
    let order = Order::Leaf { request: &request, policy: &policy, above };
    let signer = folder.authority.signer().public_key();
    let parties = Parties { subject: &subject, signer, serial: drawn(), now };
    if let Err(refused) = lint::lint(content(&content(&leaf.der).0).1, &order, &parties) {
        said.extend(refused.0.iter().map(|finding| format!("{} ({})", finding.rule, finding.source)));
    }
    said
}

/// The content of the first DER element, and the whole of that element.
fn content(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (head, length) = match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        long => {
            let octets = usize::from(long & 0x7f);
            (2 + octets, der[2..2 + octets].iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)))
        }
    };
    (der[head..head + length].to_vec(), der[..head + length].to_vec())
}

/// The `SubjectPublicKeyInfo`: the seventh element of what is signed (RFC 5280 section 4.1).
fn key_info(der: &[u8]) -> Vec<u8> {
    let mut rest = content(&content(der).0).0;
    for _ in 0..6 {
        rest = rest[content(&rest).1.len()..].to_vec();
    }
    content(&rest).1
}
