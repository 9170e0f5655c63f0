//! Three judges that share no code with what makes the certificates: OpenSSL in its strict mode, rustls-webpki and
//! pkilint. Every profile with every kind of key passes them; where they differ, `docs/certificates.md` says why; and
//! what they let pass although it is careless, our own lint refuses before it is signed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::disallowed_macros,
    reason = "tests set up their own world, and show the verdicts"
)]

mod careless;
mod judge;
mod made;

use std::collections::{BTreeMap, BTreeSet};

use espalier_domain::spec::KeyType;
use espalier_pki::profile::Purpose;
use judge::{Linted, openssl, pkilint, webpki};
use made::{Folder, NAME};

const CURVES: [KeyType; 2] = [KeyType::EcPrime256v1, KeyType::EcSecp384r1];
const PURPOSES: [Purpose; 2] = [Purpose::Server, Purpose::Client];

#[test]
fn every_profile_and_kind_of_key_passes_openssl_and_webpki_for_its_purpose_and_no_other() {
    for curve in CURVES {
        let folder = Folder::with_authority(curve);
        for (made_for, key_type) in PURPOSES.into_iter().flat_map(|purpose| KeyType::ALL.map(|kind| (purpose, kind))) {
            let leaf = folder.leaf(made_for, key_type);
            for asked in PURPOSES {
                let what = format!("{key_type} below {curve}, made for {made_for:?}, asked as {asked:?}");
                let verdicts = [openssl(&folder, &leaf, asked), webpki(&folder, &leaf, asked)];
                if made_for == asked {
                    assert_eq!(verdicts, [Ok(()), Ok(())], "{what}");
                } else {
                    assert!(verdicts.iter().all(Result::is_err), "{what}: {verdicts:?}");
                }
            }
        }
    }
}

/// The rows of the table: judge, severity and code, and which certificates they are said of.
fn explained() -> BTreeMap<[String; 3], BTreeSet<String>> {
    let page = espalier_tests::read("docs/certificates.md");
    let table = page.split("<!-- pkilint -->").nth(1).expect("the table stands between two marks");
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).skip(1);
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).map(str::to_owned).collect::<Vec<_>>());
    cells
        .map(|row| {
            let [judge, severity, code, of, why] = <[String; 5]>::try_from(row).unwrap();
            assert!(why.len() > 20, "{code} is not explained");
            let of = of.split(',').map(|kind| kind.trim().to_owned()).collect();
            ([judge, severity, code.trim_matches('`').to_owned()], of)
        })
        .collect()
}

/// `server` for a finding that all servers' certificates share, `server Ed25519` for one of this kind of key alone.
fn summed(findings: Vec<Linted>) -> BTreeMap<[String; 3], BTreeSet<String>> {
    let mut found: BTreeMap<[String; 3], BTreeSet<String>> = BTreeMap::new();
    for one in findings {
        found.entry([one.judge, one.severity, one.code]).or_default().insert(one.file.replace('-', " "));
    }
    for files in found.values_mut() {
        for purpose in ["server", "client"] {
            let all = KeyType::ALL.map(|kind| format!("{purpose} {kind}"));
            if all.iter().all(|file| files.contains(file)) {
                files.retain(|file| !all.contains(file));
                files.insert(purpose.to_owned());
            }
        }
    }
    found
}

#[test]
fn what_pkilint_says_is_explained_and_nothing_else() {
    let folder = Folder::with_authority(KeyType::EcPrime256v1);
    for (purpose, name) in [(Purpose::Server, "server"), (Purpose::Client, "client")] {
        for key_type in KeyType::ALL {
            folder.keep(&format!("{name}-{key_type}"), &folder.leaf(purpose, key_type).der);
        }
    }
    let said = summed(pkilint(&folder));
    let explained = explained();
    for (finding, of) in &said {
        assert_eq!(explained.get(finding), Some(of), "{finding:?} is not in docs/certificates.md like this");
    }
    let idle: Vec<_> = explained.keys().filter(|finding| !said.contains_key(*finding)).collect();
    assert!(idle.is_empty(), "explained and never said: {idle:?}");
}

/// The careless variants of a leaf, signed by another tool with our key, before our lint and the three judges.
#[test]
fn what_is_careless_is_refused_before_it_is_signed_whatever_the_judges_say() {
    let folder = Folder::with_authority(KeyType::EcPrime256v1);
    let mut page = String::new();
    let mut made = Vec::new();
    for variant in careless::VARIANTS {
        let leaf = careless::make(&folder, variant);
        folder.keep(variant.name, &leaf.der);
        made.push((variant, leaf));
    }
    let said = pkilint(&folder);
    for (variant, leaf) in made {
        let ours = careless::lint(&folder, &leaf);
        let careless_to = |name: &str| {
            let codes = said.iter().filter(|one| one.file == name && one.judge == "PKIX" && one.severity != "NOTICE");
            codes.map(|one| one.code.as_str()).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
        };
        let verdict = |outcome: Result<(), String>| outcome.err().unwrap_or_else(|| "accepts it".to_owned());
        page.push_str(&format!(
            "== {}\nopenssl: {}\nwebpki: {}\npkilint PKIX: {}\n",
            variant.name,
            verdict(openssl(&folder, &leaf, Purpose::Server)),
            verdict(webpki(&folder, &leaf, Purpose::Server)),
            Some(careless_to(variant.name)).filter(|codes| !codes.is_empty()).unwrap_or_else(|| "finds nothing".into()),
        ));
        for rule in &ours {
            page.push_str(&format!("our lint: {rule}\n"));
        }
        assert_eq!(ours.is_empty(), variant.name == "as-it-should-be", "{}: {ours:?}", variant.name);
    }
    println!("{page}");
    expectorate::assert_contents("tests/golden/careless.txt", &page);
}

/// Another name than the leaf's, another root, a time outside: none of the judges takes it.
#[test]
fn the_judges_can_say_no() {
    let (folder, other) =
        (Folder::with_authority(KeyType::EcPrime256v1), Folder::with_authority(KeyType::EcPrime256v1));
    let leaf = folder.leaf(Purpose::Server, KeyType::EcPrime256v1);
    assert_eq!(leaf.name, NAME);
    for wrong in [leaf.asked_as("other.example.com"), leaf.after(time::Duration::days(8))] {
        assert!(
            openssl(&folder, &wrong, Purpose::Server).is_err() && webpki(&folder, &wrong, Purpose::Server).is_err()
        );
    }
    assert!(openssl(&other, &leaf, Purpose::Server).is_err() && webpki(&other, &leaf, Purpose::Server).is_err());
}
