//! The parameters of the Run Command document: whatever one holds, the shell sees a value and never a command. Both where
//! the agent passes it as an environment variable, and where one before 3.3.2746.0 puts it into the script's own text.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use espalier_tests::{Template, root};
use proptest::prelude::*;
use proptest::string::string_regex;
use regex::Regex;
use serde_json::Value;

use crate::cases;

/// Values that the installer takes, by parameter. No host has opted in, so that it does nothing with them.
const GOOD: [(&str, &str); 11] = [
    ("Action", "Install"),
    ("Stack", "payments"),
    ("Generation", "7"),
    ("ParameterName", "/espalier-leaf/payments/shared/7"),
    ("Fingerprint", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("StartSeconds", "0"),
    ("WindowSeconds", "0"),
    ("ConfirmSeconds", "0"),
    ("MarginHours", "0"),
    ("KeyType", "EC_prime256v1"),
    ("Nonce", "a3f5c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
];

/// Each parameter's `allowedPattern`, without its anchors.
fn patterns() -> Vec<(String, String)> {
    let template = Template::read("template.yaml");
    let parameters = template.at("/Resources/InstallerDocument/Properties/Content/parameters").as_object().unwrap();
    let bare = |given: &Value| given["allowedPattern"].as_str().unwrap().trim_matches(['^', '$']).to_owned();
    parameters.iter().map(|(name, given)| (name.clone(), bare(given))).collect()
}

/// What would do something, were it ever read by a shell: `touch` leaves a file behind.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = [
        "$(touch seen)",
        "`touch seen`",
        ";touch seen;",
        "\ntouch seen\n",
        "|touch seen",
        "&touch seen&",
        ">seen",
        "'",
        "\"",
        "\\",
        "*",
        "?",
        "[a]",
        "~",
        "#",
        "!",
        "{{ Stack }}",
        "${IFS}",
        "$((1))",
        " ",
        "\t",
        "\r",
        "\n",
        "-e",
        "--",
        "%s",
        "\u{202e}",
        "é",
        "payments",
        "Install",
        "7",
        "0",
        "../",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..5).prop_map(|all| all.concat())
}

/// One parameter holds something else.
fn installer(directory: &Path, name: &str, value: &str) -> (Option<i32>, Value) {
    let mut command = Command::new("sh");
    command
        .arg(root().join("documents/installer.sh"))
        .current_dir(directory.join("here"))
        .env_clear()
        .stdin(Stdio::null());
    command.env("PATH", format!("{}:{}", directory.join("bin").display(), std::env::var("PATH").unwrap()));
    command.env("ESPALIER_CONF", directory.join("nothing"));
    command.envs(GOOD.iter().map(|(name, value)| (format!("SSM_{name}"), *value)));
    let output = command.env(format!("SSM_{name}"), value).output().unwrap();
    let last = String::from_utf8(output.stdout).unwrap().lines().last().unwrap_or_default().to_owned();
    (output.status.code(), serde_json::from_str(&last).unwrap_or_default())
}

/// A directory to be in, in which nothing may appear, and an `aws` that is never asked.
fn host() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("here")).unwrap();
    fs::create_dir(directory.path().join("bin")).unwrap();
    let aws = directory.path().join("bin/aws");
    fs::write(&aws, "#!/bin/sh\n: >seen\n").unwrap();
    fs::set_permissions(&aws, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn is_untouched(directory: &Path) -> bool {
    fs::read_dir(directory.join("here")).unwrap().next().is_none()
}

#[test]
fn good_values_come_as_far_as_the_owners_word() {
    let host = host();
    let (status, last) = installer(host.path(), "Stack", "payments");
    assert_eq!((status, last["code"].as_str()), (Some(1), Some("notOptedIn")), "{last}");
    assert!(is_untouched(host.path()));
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn a_value_in_the_environment_is_refused_or_taken_and_never_run(
        which in any::<prop::sample::Index>(), value in hostile(),
    ) {
        let all = patterns();
        let (name, pattern) = &all[which.index(all.len())];
        let host = host();
        let (status, last) = installer(host.path(), name, &value);
        let admitted = Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap().is_match(&value);
        let code = last["code"].as_str();
        prop_assert_eq!(status, Some(1), "{} {:?}: {}", name, &value, &last);
        prop_assert!(code == Some("refused") || admitted && code == Some("notOptedIn"), "{} {:?}: {}", name, value, last);
        prop_assert!(is_untouched(host.path()), "{} {:?} left something", name, value);
    }

    /// The patterns protect hosts whose agent is too old: what they admit is one word of a script, and stands for itself.
    #[test]
    fn a_value_put_into_the_text_of_a_script_is_one_plain_word(
        all in patterns().iter().map(|(_, pattern)| string_regex(pattern).unwrap()).collect::<Vec<_>>(),
        odd in prop::collection::vec(hostile(), 8),
    ) {
        let patterns: Vec<_> =
            patterns().iter().map(|(_, pattern)| Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap()).collect();
        let odd = odd.into_iter().filter(|value| patterns.iter().any(|pattern| pattern.is_match(value)));
        let words: Vec<String> = all.into_iter().chain(odd).collect();
        let script: String = words.iter().map(|word| format!("printf '<%s>' {word}\n")).collect();
        let host = host();
        let ran = Command::new("sh").arg("-c").arg(&script).current_dir(host.path().join("here")).output().unwrap();
        let expected: String = words.iter().map(|word| format!("<{word}>")).collect();
        prop_assert_eq!(String::from_utf8(ran.stdout).unwrap(), expected);
        prop_assert!(ran.status.success() && ran.stderr.is_empty() && is_untouched(host.path()), "{}", script);
    }
}
