//! Forty certificates that ACM renews in the same second, at ACM's published quotas: each is exported once, nothing fails
//! for having been throttled, and no generation is stored twice, however often its work is handed out.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

#[path = "../../../shared/aws/tests/wire/mod.rs"]
mod wire;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use aws_config::retry::RetryConfig;
use espalier_aws::SdkConfig;
use espalier_aws::acm::Certificates;
use espalier_domain::id::{AcmArn, Generation, Scope, StackName};
use espalier_domain::spec::AllowedDomains;
use espalier_domain::work::{ExportItem, WorkItem, WorkResult};
use export::Export;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use wire::{Seen, Wire};

const STACKS: usize = 40;

/// Calls a second, of `DescribeCertificate` and of `ExportCertificate` (ACM user guide, quotas).
const RATE: f64 = 10.0;

/// An account: ACM with its quotas, Parameter Store, a ledger.
struct Account {
    made: TempDir,
    serial: String,
    buckets: BTreeMap<&'static str, Bucket>,
    /// By what was asked for: served calls of ACM by certificate.
    exports: BTreeMap<String, u32>,
    items: BTreeMap<(String, String), Value>,
    leaves: BTreeMap<String, Value>,
}

/// So many calls are left, and when that was counted.
struct Bucket {
    left: f64,
    at: Instant,
    served: u32,
    throttled: u32,
}

impl Bucket {
    fn takes(&mut self) -> bool {
        let now = Instant::now();
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * RATE).min(RATE);
        self.at = now;
        let takes = self.left >= 1.0;
        if takes {
            self.left -= 1.0;
            self.served += 1;
        } else {
            self.throttled += 1;
        }
        takes
    }
}

fn openssl(folder: &Path, line: &str) -> String {
    let output = Command::new("openssl").current_dir(folder).args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A root and a leaf for every name below `example.com`.
fn made() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("ca.ext"), "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n").unwrap();
    let leaf = "subjectAltName=DNS:*.example.com\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n";
    std::fs::write(at.join("leaf.ext"), leaf).unwrap();
    for name in ["ca", "leaf"] {
        openssl(at, &format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"));
        openssl(at, &format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
    }
    openssl(at, "x509 -req -in ca.csr -key ca.key -days 3650 -extfile ca.ext -out ca.pem");
    openssl(at, "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -days 198 -extfile leaf.ext -out leaf.pem");
    let serial = openssl(at, "x509 -in leaf.pem -noout -serial").trim().replace("serial=", "").to_ascii_lowercase();
    let serial = serial.trim_start_matches('0').to_owned();
    (folder, serial)
}

impl Account {
    fn new() -> Self {
        let (made, serial) = made();
        let bucket = |call| (call, Bucket { left: RATE, at: Instant::now(), served: 0, throttled: 0 });
        let buckets = ["DescribeCertificate", "ExportCertificate"].map(bucket).into();
        let mut account =
            Self { made, serial, buckets, exports: BTreeMap::new(), items: BTreeMap::new(), leaves: BTreeMap::new() };
        for n in 0..STACKS {
            account.exported_before(n);
        }
        account
    }

    /// Generation 1, which came out of ACM before it renewed.
    fn exported_before(&mut self, n: usize) {
        let record = json!({
            "scope": "shared", "generation": 1, "parameter": format!("/espalier-leaf/{}/shared/1", stack(n)),
            "serial": "a01", "fingerprint": "ab".repeat(32), "dnsNames": [name(n)], "notBefore": "2026-05-21T00:00:00Z",
            "notAfter": "2026-12-05T00:00:00Z", "mintedAt": "2026-05-21T00:00:00Z", "authority": "a", "because": "none yet",
            "export": {"certificate": arn(n).as_str(), "trustPem": ""},
        });
        let key = (format!("STACK#{}", stack(n)), "GENERATION#shared#00000001".to_owned());
        let item = json!({"pk": {"S": key.0}, "sk": {"S": key.1}, "record": {"S": record.to_string()}});
        self.items.insert(key, item);
    }

    fn answer(&mut self, seen: &Seen) -> (u16, Value) {
        let (what, body) = (seen.what(), seen.json());
        if let Some(bucket) = self.buckets.get_mut(what.as_str())
            && !bucket.takes()
        {
            return (400, json!({"__type": "ThrottlingException", "message": "Rate exceeded"}));
        }
        match what.as_str() {
            "DescribeCertificate" => (
                200,
                json!({"Certificate": {"Status": "ISSUED", "Type": "AMAZON_ISSUED",
                "Serial": self.serial, "NotAfter": 1_811_000_000, "SubjectAlternativeNames": ["*.example.com"]}}),
            ),
            "ExportCertificate" => (200, self.export(&body)),
            "GetParameter" => (200, spec(body["Name"].as_str().unwrap())),
            "PutParameter" => self.put_parameter(&body),
            "GetParameterHistory" => {
                (200, json!({"Parameters": [self.leaves[body["Name"].as_str().unwrap()].clone()]}))
            }
            "GetItem" => {
                let found = self.items.get(&key(&body["Key"]));
                (200, found.map_or(json!({}), |item| json!({"Item": item})))
            }
            "Query" => {
                let of = |name: &str| body["ExpressionAttributeValues"][name]["S"].as_str().unwrap().to_owned();
                let (pk, prefix) = (of(":pk"), of(":prefix"));
                let found = self.items.iter().filter(|((p, s), _)| *p == pk && s.starts_with(&prefix));
                (200, json!({"Items": found.map(|(_, item)| item.clone()).collect::<Vec<_>>()}))
            }
            "PutItem" => {
                assert_eq!(body["ConditionExpression"], "attribute_not_exists(pk)", "nothing is ever overwritten");
                let key = key(&body["Item"]);
                if self.items.contains_key(&key) {
                    return (400, json!({"__type": "ConditionalCheckFailedException"}));
                }
                self.items.insert(key, body["Item"].clone());
                (200, json!({}))
            }
            other => panic!("nobody should ask for {other}"),
        }
    }

    fn export(&mut self, body: &Value) -> Value {
        *self.exports.entry(body["CertificateArn"].as_str().unwrap().to_owned()).or_default() += 1;
        let at = self.made.path();
        std::fs::write(at.join("passphrase"), format!("{}\n", body["Passphrase"].as_str().unwrap())).unwrap();
        let plain = openssl(at, "base64 -d -A -in passphrase");
        std::fs::write(at.join("passphrase"), plain).unwrap();
        let sealed =
            "pkcs8 -topk8 -in leaf.key -v2 aes-256-cbc -v2prf hmacWithSHA1 -iter 2048 -passout file:passphrase";
        let read = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
        json!({"Certificate": read("leaf.pem"), "CertificateChain": read("ca.pem"), "PrivateKey": openssl(at, sealed)})
    }

    fn put_parameter(&mut self, body: &Value) -> (u16, Value) {
        let name = body["Name"].as_str().unwrap().to_owned();
        if self.leaves.contains_key(&name) {
            return (400, json!({"__type": "ParameterAlreadyExists"}));
        }
        self.leaves.insert(name, json!({"Name": body["Name"], "Description": body["Description"]}));
        (200, json!({"Version": 1}))
    }

    fn generations(&self, n: usize) -> usize {
        let pk = format!("STACK#{}", stack(n));
        self.items.keys().filter(|(p, s)| *p == pk && s.starts_with("GENERATION#")).count()
    }
}

fn key(item: &Value) -> (String, String) {
    (item["pk"]["S"].as_str().unwrap().to_owned(), item["sk"]["S"].as_str().unwrap().to_owned())
}

fn stack(n: usize) -> String {
    format!("forty-{n}")
}

fn name(n: usize) -> String {
    format!("forty-{n}.example.com")
}

fn arn(n: usize) -> AcmArn {
    AcmArn::parse(format!("arn:aws:acm:eu-west-1:111122223333:certificate/{n:08}")).unwrap()
}

fn spec(parameter: &str) -> Value {
    let n: usize = parameter.rsplit('-').next().unwrap().parse().unwrap();
    let mut document: Value = serde_json::from_str(include_str!("../../../examples/acm.json")).unwrap();
    document["stack"] = stack(n).into();
    document["service"]["domainName"] = name(n).into();
    document["certificate"]["issuer"]["certificateArn"] = arn(n).as_str().into();
    document["certificate"]["dnsNames"] = json!([name(n)]);
    json!({"Parameter": {"Name": parameter, "Value": document.to_string()}})
}

fn item(n: usize, serial: &str) -> WorkItem {
    WorkItem::Export(ExportItem {
        stack: StackName::parse(stack(n)).unwrap(),
        scope: Scope::shared(),
        generation: Generation(2),
        serial: serial.to_owned(),
        because: "ACM renewed it".into(),
    })
}

/// What a renewal asks of ACM for one stack: `rotate` looks at the event, the execution's first pass looks, `export` works, and
/// the next pass looks; each in a sandbox, and with clients, of its own. `rotate` is not run here: its looks are its client's.
async fn renewed(sdk: SdkConfig, n: usize, serial: String) {
    for round in ["the event", "the first pass"] {
        Certificates::new(&sdk).describe(&arn(n)).await.unwrap_or_else(|error| panic!("{n}, {round}: {error:?}"));
    }
    exported(&sdk, n, &serial).await;
    Certificates::new(&sdk).describe(&arn(n)).await.unwrap();
}

async fn exported(sdk: &SdkConfig, n: usize, serial: &str) {
    let allowed = AllowedDomains::parse("example.com").unwrap();
    let answered =
        Export::new(sdk, allowed, "ledger", "key", None).answer(item(n, serial), OffsetDateTime::now_utc()).await;
    match answered.unwrap_or_else(|error| panic!("{n}: {}", error.text)) {
        WorkResult::Minted { serial: made, .. } => assert_eq!(made, serial),
        other => panic!("{other:?}"),
    }
}

/// Does something for every stack at once.
async fn all<F: Future<Output = ()> + Send + 'static>(work: impl Fn(usize) -> F) {
    let mut running = JoinSet::new();
    (0..STACKS).for_each(|n| drop(running.spawn(work(n))));
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_renewals_at_once_are_forty_exports() {
    let account = Arc::new(Mutex::new(Account::new()));
    let serial = account.lock().unwrap().serial.clone();
    let held = Arc::clone(&account);
    let wire = Wire::answering(move |seen: &Seen| {
        let (status, body) = held.lock().unwrap().answer(seen);
        (status, body.to_string())
    })
    .await;
    let sdk = wire.sdk().into_builder().retry_config(RetryConfig::standard()).build();

    all(|n| renewed(sdk.clone(), n, serial.clone())).await;
    let told = |account: &Account| {
        account.buckets.iter().map(|(call, one)| (*call, one.served, one.throttled)).collect::<Vec<_>>()
    };
    {
        let account = account.lock().unwrap();
        assert_eq!(account.exports.len(), STACKS);
        assert!(account.exports.values().all(|count| *count == 1), "{:?}", account.exports);
        assert_eq!(told(&account).iter().map(|(_, served, _)| *served).collect::<Vec<_>>(), [120, 40]);
        assert!(account.buckets["DescribeCertificate"].throttled > 0, "the quotas were never met: nothing is shown");
    }

    // Everything is handed out once more: a lost answer, a second execution. Nothing is exported again.
    all(|n| {
        let (sdk, serial) = (sdk.clone(), serial.clone());
        async move { exported(&sdk, n, &serial).await }
    })
    .await;
    {
        let account = account.lock().unwrap();
        assert!(account.exports.values().all(|count| *count == 1), "{:?}", account.exports);
        assert!((0..STACKS).all(|n| account.generations(n) == 2));
    }

    // The same work five times at once, before any of them is done: one generation all the same.
    account.lock().unwrap().items.retain(|(pk, sk), _| pk != "STACK#forty-0" || sk.ends_with("#00000001"));
    account.lock().unwrap().leaves.remove("/espalier-leaf/forty-0/shared/2");
    account.lock().unwrap().exports.clear();
    let mut running = JoinSet::new();
    for _ in 0..5 {
        let (sdk, serial) = (sdk.clone(), serial.clone());
        running.spawn(async move { exported(&sdk, 0, &serial).await });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    let account = account.lock().unwrap();
    assert_eq!(account.generations(0), 2);
    assert_eq!(account.leaves.keys().filter(|name| name.starts_with("/espalier-leaf/forty-0/")).count(), 1);
    // Nothing but the ledger keeps them apart, and that is asked before an export and written after it: each may export once,
    // and none twice, nor anything of another stack's.
    let exported: Vec<_> = account.exports.iter().map(|(arn, count)| (arn.as_str(), *count)).collect();
    assert!(matches!(exported.as_slice(), [(certificate, 1..=5)] if *certificate == arn(0).as_str()), "{exported:?}");
}
