//! An account as far as the authority's keys go: KMS that signs with real keys and refuses what KMS refuses, a ledger
//! that takes conditional writes only, Parameter Store and Secrets Manager that overwrite nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use espalier_aws::SdkConfig;
use espalier_aws::parameters::BUNDLE;
use espalier_domain::record::AuthorityRecord;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::wire::{Seen, Wire};

pub(crate) const ROOT: &str = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000001";
pub(crate) const ISSUING: &str = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000002";
/// The next authority's.
pub(crate) const NEXT_ROOT: &str = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000003";
pub(crate) const NEXT_ISSUING: &str = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000004";
/// The evidence's, and the bucket that it is in.
pub(crate) const SEALING: &str = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000005";
pub(crate) const BUCKET: &str = "evidence";
pub(crate) const AUTHOR: &str = "arn:aws:iam::111122223333:user/ops";
pub(crate) const SECRET: &str = "espalier/authority";
pub(crate) const STACK: &str = "api-service";

pub(crate) fn openssl(folder: &Path, line: &str) -> Vec<u8> {
    let output = Command::new("openssl").current_dir(folder).args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What there is, and what was asked of it.
pub(crate) struct Account {
    pub(crate) folder: TempDir,
    pub(crate) items: BTreeMap<(String, String), Value>,
    pub(crate) parameters: BTreeMap<String, Value>,
    /// Parameters that were deleted.
    pub(crate) deleted: BTreeMap<String, Value>,
    pub(crate) secrets: BTreeMap<String, String>,
    /// The bucket's, by name: none is ever overwritten.
    pub(crate) objects: BTreeMap<String, String>,
    /// By which key, as often as it signed.
    pub(crate) signed: BTreeMap<String, u32>,
    /// What a key answers in place of a signature: a code and a sentence.
    pub(crate) refusals: BTreeMap<String, (&'static str, &'static str)>,
    /// Every stack's.
    pub(crate) spec: Value,
    /// What nodes said to commands, by both.
    pub(crate) said: BTreeMap<(String, String), String>,
    /// The nodes that are online and opted in to the stack.
    pub(crate) online: BTreeSet<String>,
    /// Writes that are refused from now on, by the beginning of their sort key or name: the function dies there.
    pub(crate) dies_at: Option<&'static str>,
}

impl Account {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for arn in [ROOT, ISSUING, NEXT_ROOT, NEXT_ISSUING, SEALING] {
            let (curve, file) = (curve(arn).0, file(arn));
            openssl(folder.path(), &format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out {file}"));
        }
        Self {
            folder,
            items: BTreeMap::new(),
            parameters: BTreeMap::new(),
            deleted: BTreeMap::new(),
            secrets: BTreeMap::new(),
            objects: BTreeMap::new(),
            signed: BTreeMap::new(),
            refusals: BTreeMap::new(),
            spec: serde_json::from_str(&espalier_tests::read("examples/recipe.json")).unwrap(),
            said: BTreeMap::new(),
            online: BTreeSet::new(),
            dies_at: None,
        }
    }

    /// Another key behind the same name.
    pub(crate) fn swap(&mut self, arn: &str) {
        let file = file(arn);
        openssl(self.folder.path(), &format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {file}"));
    }

    /// The authorities that `mint` and `rotate` see.
    pub(crate) fn authorities(&self) -> Vec<AuthorityRecord> {
        let of = |(key, item): (&(String, String), &Value)| {
            let seen = key.0 == "AUTHORITIES" && key.1.starts_with("AUTHORITY#");
            seen.then(|| serde_json::from_str(item["record"]["S"].as_str().unwrap()).unwrap())
        };
        self.items.iter().filter_map(of).collect()
    }

    /// What a function is answered whose role lets it sign with `may` and make secrets.
    fn answer(&mut self, may: &BTreeSet<&str>, seen: &Seen) -> (u16, Value) {
        let (what, body) = (seen.what(), seen.json());
        match what.as_str() {
            "Sign" | "GetPublicKey" => self.key(what == "Sign", may, &body),
            "Verify" => self.verify(&body),
            "GetSecretValue" => match self.secrets.get(body["SecretId"].as_str().unwrap()) {
                Some(text) => (200, json!({"Name": body["SecretId"], "SecretString": text})),
                None => error("ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
            },
            "CreateSecret" => {
                let name = body["Name"].as_str().unwrap().to_owned();
                if self.secrets.contains_key(&name) {
                    return error("ResourceExistsException", "it exists");
                }
                self.secrets.insert(name, body["SecretString"].as_str().unwrap().to_owned());
                (200, json!({"Name": body["Name"]}))
            }
            "GetParameter" => match body["Name"].as_str().unwrap() {
                BUNDLE => match self.parameters.get(BUNDLE) {
                    Some(kept) => (200, json!({"Parameter": kept})),
                    None => error("ParameterNotFound", "it does not exist"),
                },
                name => (200, spec(name, &self.spec)),
            },
            "GetParametersByPath" => {
                (200, json!({"Parameters": [spec(&format!("/espalier-spec/{STACK}"), &self.spec)["Parameter"]]}))
            }
            "GetParameterHistory" if body["Name"].as_str().unwrap().starts_with("/espalier-spec/") => {
                let written = json!({"Version": 3, "LastModifiedUser": AUTHOR, "LastModifiedDate": 1_795_000_000});
                (200, json!({"Parameters": [written]}))
            }
            "GetParameterHistory" => {
                (200, json!({"Parameters": [self.parameters[body["Name"].as_str().unwrap()].clone()]}))
            }
            "PutParameter" => self.put_parameter(&body),
            "GetCommandInvocation" => {
                let asked = ["CommandId", "InstanceId"].map(|field| body[field].as_str().unwrap().to_owned());
                match self.said.get(&asked.into()) {
                    Some(said) => {
                        (200, json!({"Status": "Success", "StatusDetails": "Success", "StandardOutputContent": said}))
                    }
                    None => error("InvocationDoesNotExist", "it does not exist"),
                }
            }
            "DescribeInstanceInformation" => {
                assert_eq!(body["Filters"], json!([{"Key": "tag:espalier:stack", "Values": [STACK]}]));
                let online = self.online.iter().map(|node| json!({"InstanceId": node, "PingStatus": "Online"}));
                (200, json!({"InstanceInformationList": online.collect::<Vec<_>>()}))
            }
            "DeleteParameters" => self.delete_parameters(&body),
            "GetItem" => {
                let found = self.items.get(&key_of(&body["Key"]));
                (200, found.map_or(json!({}), |item| json!({"Item": item})))
            }
            "Query" => self.query(&body),
            "PutItem" => self.put_item(&body),
            other => self.bucket(other, seen),
        }
    }

    /// KMS API reference, `Sign` and `GetPublicKey`.
    fn key(&mut self, signs: bool, may: &BTreeSet<&str>, body: &Value) -> (u16, Value) {
        let arn = body["KeyId"].as_str().unwrap().to_owned();
        let path = self.folder.path();
        if !path.join(file(&arn)).exists() {
            return error("NotFoundException", "the key does not exist");
        }
        if let Some((code, message)) = self.refusals.get(&arn) {
            return error(code, message);
        }
        if !signs {
            let spki = openssl(path, &format!("pkey -in {} -pubout -outform DER", file(&arn)));
            let (usage, spki) = ("SIGN_VERIFY", STANDARD.encode(spki));
            let spec = format!("ECC_NIST_{}", curve(&arn).0.replace('-', ""));
            return (200, json!({"KeyId": arn, "KeyUsage": usage, "KeySpec": spec, "PublicKey": spki}));
        }
        if !may.contains(arn.as_str()) {
            return error("AccessDeniedException", "not authorized to perform: kms:Sign");
        }
        let digest = STANDARD.decode(body["Message"].as_str().unwrap()).unwrap();
        let (_, algorithm, length) = curve(&arn);
        assert_eq!((&body["MessageType"], &body["SigningAlgorithm"]), (&json!("DIGEST"), &json!(algorithm)));
        assert_eq!(digest.len(), length, "Digest is invalid length for algorithm {algorithm}");
        std::fs::write(path.join("digest"), &digest).unwrap();
        let signature = openssl(path, &format!("pkeyutl -sign -inkey {} -in digest", file(&arn)));
        *self.signed.entry(arn.clone()).or_default() += 1;
        (200, json!({"KeyId": arn, "Signature": STANDARD.encode(signature), "SigningAlgorithm": algorithm}))
    }

    /// KMS API reference, `Verify`: a signature that is not valid is an error, and no answer.
    fn verify(&self, body: &Value) -> (u16, Value) {
        let (arn, path) = (body["KeyId"].as_str().unwrap(), self.folder.path());
        for (name, field) in [("digest", "Message"), ("signature", "Signature")] {
            std::fs::write(path.join(name), STANDARD.decode(body[field].as_str().unwrap()).unwrap()).unwrap();
        }
        let asked = ["pkeyutl", "-verify", "-inkey", &file(arn), "-in", "digest", "-sigfile", "signature"];
        match Command::new("openssl").current_dir(path).args(asked).output().unwrap().status.success() {
            true => (200, json!({"KeyId": arn, "SignatureValid": true, "SigningAlgorithm": "ECDSA_SHA_256"})),
            false => error("KMSInvalidSignatureException", "it is not valid"),
        }
    }

    /// Amazon S3 API reference, `ListObjectsV2`, `GetObject` and `PutObject` with `If-None-Match`.
    fn bucket(&mut self, what: &str, seen: &Seen) -> (u16, Value) {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let name = path.strip_prefix(&format!("/{BUCKET}")).unwrap_or_else(|| panic!("nobody should ask for {what}"));
        let name = name.trim_start_matches('/').to_owned();
        let refused = |code: &str| json!(format!("<Error><Code>{code}</Code><Message>it is so</Message></Error>"));
        match (seen.method.as_str(), name.as_str()) {
            ("GET", "") => {
                let prefix =
                    query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap().replace("%2F", "/");
                let keys = self.objects.keys().filter(|key| key.starts_with(&prefix));
                let list: String = keys.map(|key| format!("<Contents><Key>{key}</Key></Contents>")).collect();
                (200, json!(format!("<ListBucketResult><IsTruncated>false</IsTruncated>{list}</ListBucketResult>")))
            }
            ("GET", _) => self.objects.get(&name).map_or((404, refused("NoSuchKey")), |text| (200, json!(text))),
            ("PUT", _) => {
                let header = |name: &str| {
                    seen.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
                };
                assert_eq!(header("if-none-match"), Some("*"), "nothing is ever overwritten");
                // Object Lock wants to know what arrives (S3 user guide, uploading objects to a locked bucket).
                assert!(seen.headers.iter().any(|(name, _)| name.starts_with("x-amz-checksum-")), "{:?}", seen.headers);
                if self.objects.contains_key(&name) {
                    return (412, refused("PreconditionFailed"));
                }
                self.objects.insert(name, seen.body.clone());
                (200, json!(""))
            }
            other => panic!("nobody should ask for {other:?}"),
        }
    }

    fn put_parameter(&mut self, body: &Value) -> (u16, Value) {
        let name = body["Name"].as_str().unwrap().to_owned();
        if self.dies(&name) {
            return error("AccessDeniedException", "dead");
        }
        assert_eq!(body["Overwrite"] == true, name == BUNDLE, "only the bundle is overwritten");
        if name != BUNDLE && self.parameters.contains_key(&name) {
            return error("ParameterAlreadyExists", "it exists");
        }
        let kept = json!({"Name": body["Name"], "Value": body["Value"], "Description": body["Description"]});
        self.parameters.insert(name, kept);
        (200, json!({"Version": 1}))
    }

    /// Systems Manager API reference, `DeleteParameters`: ten names at most, and one that is not there is no error.
    fn delete_parameters(&mut self, body: &Value) -> (u16, Value) {
        let names: Vec<&str> = body["Names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!((1..=10).contains(&names.len()), "{names:?}");
        let (gone, invalid): (Vec<&str>, _) = names.into_iter().partition(|name| self.parameters.contains_key(*name));
        for name in &gone {
            self.deleted.extend(self.parameters.remove_entry(*name));
        }
        (200, json!({"DeletedParameters": gone, "InvalidParameters": invalid}))
    }

    fn query(&self, body: &Value) -> (u16, Value) {
        let of = |name: &str| body["ExpressionAttributeValues"][name]["S"].as_str().unwrap();
        let (pk, prefix) = (of(":pk"), of(":prefix"));
        let found = self.items.iter().filter(|((p, s), _)| p == pk && s.starts_with(prefix));
        (200, json!({"Items": found.map(|(_, item)| item.clone()).collect::<Vec<_>>()}))
    }

    fn put_item(&mut self, body: &Value) -> (u16, Value) {
        let key = key_of(&body["Item"]);
        if self.dies(&key.1) {
            return error("AccessDeniedException", "dead");
        }
        let is_free = match body["ConditionExpression"].as_str() {
            Some("attribute_not_exists(pk)") => !self.items.contains_key(&key),
            Some("#record = :seen") => self.items[&key]["record"] == body["ExpressionAttributeValues"][":seen"],
            other => panic!("nothing is ever overwritten: {other:?}"),
        };
        if !is_free {
            return error("ConditionalCheckFailedException", "it is there");
        }
        self.items.insert(key, body["Item"].clone());
        (200, json!({}))
    }

    fn dies(&self, at: &str) -> bool {
        self.dies_at.is_some_and(|place| at.starts_with(place))
    }
}

/// An account, and one way in for each role.
pub(crate) struct World {
    pub(crate) account: Arc<Mutex<Account>>,
    authority: Wire,
    mint: Wire,
    seal: Wire,
}

impl World {
    pub(crate) async fn new() -> Self {
        let account = Arc::new(Mutex::new(Account::new()));
        let door = |keys: &[&'static str]| {
            let (held, may) = (Arc::clone(&account), keys.iter().copied().collect::<BTreeSet<_>>());
            Wire::answering(move |seen: &Seen| {
                let (status, body) = held.lock().unwrap().answer(&may, seen);
                (status, body.as_str().map_or_else(|| body.to_string(), str::to_owned))
            })
        };
        let (authority, mint) = (door(&[ROOT, NEXT_ROOT]).await, door(&[ISSUING, NEXT_ISSUING]).await);
        let seal = door(&[SEALING]).await;
        Self { account, authority, mint, seal }
    }

    /// As `authority`'s role.
    pub(crate) fn authority(&self) -> SdkConfig {
        self.authority.sdk()
    }

    /// As `mint`'s role.
    pub(crate) fn mint(&self) -> SdkConfig {
        self.mint.sdk()
    }

    /// As `seal`'s role.
    pub(crate) fn seal(&self) -> SdkConfig {
        self.seal.sdk()
    }

    /// What `mint` asked of whom.
    pub(crate) fn asked_by_mint(&self) -> Vec<String> {
        self.mint.asked()
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Account) -> T) -> T {
        work(&mut self.account.lock().unwrap())
    }
}

/// The next authority's keys are on the other curve: its name, and the algorithm and digest that KMS takes for it.
fn curve(arn: &str) -> (&'static str, &'static str, usize) {
    match arn {
        NEXT_ROOT | NEXT_ISSUING => ("P-384", "ECDSA_SHA_384", 48),
        _ => ("P-256", "ECDSA_SHA_256", 32),
    }
}

fn file(arn: &str) -> String {
    format!("{}.key", arn.rsplit('/').next().unwrap())
}

fn error(code: &str, message: &str) -> (u16, Value) {
    // KMS API reference: these are the service's own, all others the caller's.
    let own = ["DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException"].contains(&code);
    (if own { 500 } else { 400 }, json!({"__type": code, "message": message}))
}

fn key_of(item: &Value) -> (String, String) {
    (item["pk"]["S"].as_str().unwrap().to_owned(), item["sk"]["S"].as_str().unwrap().to_owned())
}

fn spec(name: &str, spec: &Value) -> Value {
    json!({"Parameter": {"Name": name, "Version": 3, "Value": spec.to_string()}})
}
