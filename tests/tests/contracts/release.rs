//! What a release consists of: zips that are the same bytes for the same binaries, a template that names them and is else the
//! one that is tested, and a list of what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use espalier_tests::{Template, root};
use serde_json::Value;

fn python(script: &str, arguments: &[&str]) -> Output {
    Command::new("python3").arg(root().join(script)).args(arguments).output().unwrap()
}

fn pack(binaries: &Path, out: &Path, functions: &[&str]) -> Output {
    let binaries = binaries.join("{}");
    let options =
        ["--binaries", binaries.to_str().unwrap(), "--architecture", "x86_64", "--out", out.to_str().unwrap()];
    python("release/pack.py", &[&options[..], functions].concat())
}

fn names() -> Vec<String> {
    Template::read("template.yaml").functions().map(|(id, _)| id.to_lowercase()).collect()
}

/// Every file below a folder.
fn contents(at: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = walkdir::WalkDir::new(at).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let name = entry.path().strip_prefix(at).unwrap().to_str().unwrap().to_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn the_same_binaries_make_the_same_zips_and_the_template_is_the_one_that_is_tested() {
    let work = tempfile::tempdir().unwrap();
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut made = Vec::new();
    for place in ["one", "another"] {
        let binaries = work.path().join(place).join("binaries");
        fs::create_dir_all(&binaries).unwrap();
        for (age, name) in names.iter().enumerate() {
            let file = binaries.join(name);
            fs::write(&file, format!("the binary of {name}")).unwrap();
            let earlier =
                std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(place.len() as u64 + age as u64);
            fs::File::options().write(true).open(&file).unwrap().set_modified(earlier).unwrap();
        }
        let out = work.path().join(place).join("out");
        let packed = pack(&binaries, &out, &names);
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        made.push(contents(&out));
    }
    assert_eq!(made[0], made[1]);
    // A Unix executable: the mode stands in the upper half of the external attributes, before the entry's offset.
    let mode = [&0o100_755_u32.to_le_bytes()[..2], &[0, 0, 0, 0], b"bootstrap"].concat();
    let zip = &made[0]["verify.zip"];
    assert!(zip.windows(mode.len()).any(|window| window == mode), "bootstrap is no executable");

    for path in ["template.yaml", "prober.yaml"] {
        packs_what_is_tested(path, &made[0]);
    }
    let packed = Template::parse(&String::from_utf8(made[0]["template.yaml"].clone()).unwrap());
    let definition = packed.at("/Resources/Rotation/Properties/DefinitionUri").as_str().unwrap();
    assert_eq!(made[0][definition], fs::read(root().join(definition)).unwrap());
}

/// The packed template is the one of the sources, but that its functions are the zips that lie beside it.
fn packs_what_is_tested(path: &str, made: &BTreeMap<String, Vec<u8>>) {
    let packed = Template::parse(&String::from_utf8(made[path].clone()).unwrap());
    let tested = Template::read(path);
    let mut expected = tested.at("").clone();
    expected["Globals"]["Function"].as_object_mut().unwrap().remove("CodeUri");
    expected["Parameters"]["Architecture"]["Default"] = "x86_64".into();
    for (id, _) in tested.functions() {
        let function = &mut expected["Resources"][id];
        let metadata = function["Metadata"].as_object_mut().unwrap();
        metadata.retain(|name, _| !name.starts_with("Build"));
        let zip = format!("{}.zip", id.to_lowercase());
        assert!(made.contains_key(&zip), "{path}: {id} has no zip");
        function["Properties"]["CodeUri"] = zip.into();
    }
    assert_eq!(*packed.at(""), expected, "{path}");
}

#[test]
fn what_cannot_be_packed_is_refused_by_name() {
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("out");
    for (function, said) in [("verifier", "verifier: no function"), ("verify", "build verify first")] {
        let refused = pack(work.path(), &out, &[function]);
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && told.contains(said), "{told}");
        assert!(contents(work.path()).is_empty(), "something was written");
    }
}

#[test]
fn the_bill_of_materials_lists_what_is_linked_and_nothing_else() {
    let work = tempfile::tempdir().unwrap();
    let out = work.path().to_str().unwrap();
    let made = python("release/bom.py", &["--architecture", "arm64", "--out", out, "verify"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bill: Value = serde_json::from_slice(&fs::read(work.path().join("verify.cdx.json")).unwrap()).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(bill["metadata"]["component"]["name"], "verify");
    let components = bill["components"].as_array().unwrap();
    let listed: BTreeSet<&str> = components.iter().filter_map(|one| one["name"].as_str()).collect();
    for name in ["rustls", "aws-lc-sys", "espalier-probe"] {
        assert!(listed.contains(name), "{name} is linked and not listed");
    }
    for name in ["syn", "cc", "aws-sdk-ssm", "proptest", "verify"] {
        assert!(!listed.contains(name), "{name} is listed and not linked");
    }
    let references: BTreeSet<&str> = components.iter().filter_map(|one| one["bom-ref"].as_str()).collect();
    assert_eq!(references.len(), components.len(), "a reference stands twice");
    for one in components {
        assert!(one["licenses"][0]["expression"].as_str().is_some_and(|licence| !licence.is_empty()), "{one}");
        assert_eq!(
            one["purl"].is_string(),
            one["hashes"].is_array(),
            "what is from the registry has its checksum: {one}"
        );
    }
    for needed in bill["dependencies"].as_array().unwrap().iter().flat_map(|one| one["dependsOn"].as_array().unwrap()) {
        assert!(references.contains(needed.as_str().unwrap()), "{needed} is needed and not listed");
    }
}
