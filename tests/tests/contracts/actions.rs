//! Each role's actions are those that the function's modules declare, plus what Lambda itself needs; both ways.

use std::collections::{BTreeMap, BTreeSet};

use espalier_aws::{
    acm, bus, command, evidence, inventory, kms, lattice, ledger, parameters, route53, sealing, secrets, specs, states,
};
use espalier_edge::actions as lambda;
use espalier_tests::{Template, product_sources, statements, texts};
use regex::Regex;

/// What AWS asks for on the caller's behalf beside the call itself (Service Authorization Reference, VPC Lattice):
/// its own role at the account's first resource, and tags at creation.
const LATTICE_DEPENDS_ON: &[&str] = &["iam:CreateServiceLinkedRole", "vpc-lattice:TagResource"];

/// What each function's code calls: the module, and the actions it declares for this use.
fn declared() -> BTreeMap<&'static str, Vec<(&'static str, &'static [&'static str])>> {
    BTreeMap::from([
        (
            "provision",
            vec![
                ("specs", specs::ACTIONS),
                ("bus", bus::ACTIONS),
                ("lattice", lattice::ACTIONS),
                ("lattice", LATTICE_DEPENDS_ON),
                ("route53", route53::ACTIONS),
                ("acm", acm::REQUEST),
                ("ledger", ledger::READ),
                ("ledger", ledger::WRITE),
                ("", espalier_aws_ec2::ACTIONS),
                ("", espalier_aws_autoscaling::ACTIONS),
            ],
        ),
        (
            "rotate",
            looking_and(&[
                ("specs", specs::ACTIONS),
                ("ledger", ledger::WRITE),
                ("acm", acm::ELSEWHERE),
                ("states", states::ACTIONS),
            ]),
        ),
        (
            "mint",
            vec![
                ("specs", specs::ACTIONS),
                ("ledger", ledger::READ),
                ("ledger", ledger::WRITE),
                ("parameters", parameters::LEAF_WRITE),
                ("parameters", parameters::LEAF_KEY),
                ("kms", kms::SIGN),
                ("secrets", secrets::READ),
                ("command", command::READ_ONE),
                ("inventory", inventory::ACTIONS),
            ],
        ),
        ("authority", making_authorities()),
        (
            "export",
            vec![
                ("acm", acm::EXPORT),
                ("acm", acm::ELSEWHERE),
                ("specs", specs::ACTIONS),
                ("ledger", ledger::READ),
                ("ledger", ledger::WRITE),
                ("parameters", parameters::LEAF_WRITE),
                ("parameters", parameters::LEAF_KEY),
                ("parameters", parameters::TRUST_WRITE),
            ],
        ),
        ("distribute", vec![("ledger", ledger::READ), ("ledger", ledger::WRITE), ("command", command::SEND)]),
        ("verify", vec![]),
        ("fleet", looking_and(&[("acm", &[])])),
        ("seal", sealing_what_is_read()),
    ])
}

/// What a look at a stack's evidence calls, and more.
fn looking_and(more: &[(&'static str, &'static [&'static str])]) -> Vec<(&'static str, &'static [&'static str])> {
    evidence::ACTIONS.into_iter().map(|actions| ("evidence", actions)).chain(more.iter().copied()).collect()
}

/// What `authority` calls.
fn making_authorities() -> Vec<(&'static str, &'static [&'static str])> {
    vec![
        ("ledger", ledger::READ),
        ("ledger", ledger::WRITE),
        ("parameters", parameters::TRUST_WRITE),
        ("parameters", parameters::TRUST_READ),
        ("kms", kms::SIGN),
        ("kms", kms::READ),
        ("secrets", secrets::READ),
        ("secrets", secrets::CREATE),
        ("", espalier_aws_s3::object::ACTIONS),
    ]
}

/// What `seal` calls.
fn sealing_what_is_read() -> Vec<(&'static str, &'static [&'static str])> {
    vec![
        ("specs", specs::ACTIONS),
        ("specs", specs::AUTHORS),
        ("ledger", ledger::READ),
        ("sealing", sealing::ACTIONS),
        ("", espalier_aws_s3::ACTIONS),
    ]
}

/// What Lambda needs of the role, whatever the code does.
fn of_lambda(function: &str) -> Vec<&'static str> {
    let mut actions = [lambda::LOGS, lambda::TRACES].concat();
    match function {
        "verify" => actions.extend(lambda::VPC),
        // Only these are called asynchronously; the state machine waits for the answer of the others.
        "provision" | "rotate" | "authority" | "seal" => actions.extend(lambda::DEAD_LETTERS),
        _ => {}
    }
    actions
}

#[test]
fn a_role_allows_what_its_functions_modules_call_and_nothing_else() {
    let template = Template::read("template.yaml");
    for (id, _) in template.functions() {
        let function = id.to_lowercase();
        let needed: BTreeSet<&str> = declared()[function.as_str()]
            .iter()
            .flat_map(|(_, actions)| actions.iter().copied())
            .chain(of_lambda(&function))
            .collect();
        let role = statements(&template, &format!("{id}Role"));
        let allowed: BTreeSet<&str> = role
            .iter()
            .filter(|statement| statement.allows)
            .flat_map(|statement| statement.actions.iter().map(String::as_str))
            .collect();
        let missing: Vec<_> = needed.difference(&allowed).collect();
        let idle: Vec<_> = allowed.difference(&needed).collect();
        assert!(missing.is_empty(), "{id}Role lacks {missing:?}, which {function} calls");
        assert!(idle.is_empty(), "{id}Role allows {idle:?}, which {function} never calls");
    }
}

#[test]
fn the_table_above_names_the_modules_that_each_function_uses() {
    let path = Regex::new(r"\bespalier_aws::(?:\{([^}]*)\}|(\w+))").unwrap();
    // Modules without calls of their own.
    let plain = ["error", "sdk"];
    for (function, table) in declared() {
        let folder = format!("functions/{function}/src/");
        let mut used = BTreeSet::new();
        for file in product_sources().iter().filter(|file| file.path.starts_with(&folder)) {
            for found in path.captures_iter(&file.text) {
                let names = found.get(1).or(found.get(2)).map_or("", |names| names.as_str());
                used.extend(names.split(',').map(|name| name.trim().split(':').next().unwrap_or_default().to_owned()));
            }
        }
        // A type re-exported at the top is no module.
        used.retain(|name| {
            name.starts_with(|first: char| first.is_ascii_lowercase()) && !plain.contains(&name.as_str())
        });
        let named: BTreeSet<String> =
            table.iter().map(|(module, _)| (*module).to_owned()).filter(|module| !module.is_empty()).collect();
        assert_eq!(used, named, "{function}");
    }
}

#[test]
fn no_role_is_wider_than_a_sentence_in_the_template_explains() {
    // Calls that know no resources (Service Authorization Reference), and Lambda's own.
    let everywhere = [
        "Traces",
        "FindLattice",
        "SeeNetwork",
        "SeeTargetsAndCommands",
        "SeeRequests",
        "StandInTheVpc",
        "LogsAndTraces",
        "DeliverAccessLogs",
        "FindZones",
        "FindCertificates",
        // What is requested has no ARN yet.
        "RequestCertificates",
        "MakePrivateZones",
    ];
    let template = Template::read("template.yaml");
    let mut roles = 0;
    for (role, _) in template.resources("AWS::IAM::Role") {
        roles += 1;
        let all = statements(&template, role);
        assert!(!all.is_empty(), "{role}");
        for statement in all {
            assert!(!statement.sid.is_empty(), "{role} has a statement without a name");
            for action in &statement.actions {
                assert!(!action.contains('*'), "{role}, {}: {action}", statement.sid);
            }
            let anything = statement.resources.iter().any(|resource| resource == "*");
            assert!(
                !anything || !statement.allows || everywhere.contains(&statement.sid.as_str()),
                "{role}, {}: allowed on every resource",
                statement.sid
            );
        }
    }
    assert_eq!(roles, 10, "one for each function and one for the state machine");
}

#[test]
fn only_export_takes_keys_out_of_acm() {
    let template = Template::read("template.yaml");
    let exports = |role: &str| {
        statements(&template, role).iter().any(|one| one.actions.iter().any(|action| action == "acm:ExportCertificate"))
    };
    let roles: Vec<&str> =
        template.resources("AWS::IAM::Role").map(|(role, _)| role).filter(|role| exports(role)).collect();
    assert_eq!(roles, ["ExportRole"]);
}

/// `CertificateAccountIds` comes to one role in each account, and the code, the template and the example know it by one name.
#[test]
fn other_accounts_certificates_are_reached_by_two_roles_that_trust_one_each() {
    let (template, there) = (Template::read("template.yaml"), Template::read("examples/certificate-account.yaml"));
    let values = BTreeMap::from([("AWS::Partition", "aws"), ("CertificateAccountIds", "210987654321,000000000001")]);
    for (role, sid, kind, resource, own, trusted) in [
        ("RotateRole", "ReadElsewhere", acm::Role::Reader, "Reader", acm::ACTIONS, "RotateRoleArn"),
        ("ExportRole", "ExportElsewhere", acm::Role::Exporter, "Exporter", acm::EXPORT, "ExportRoleArn"),
    ] {
        let found = statements(&template, role).into_iter().find(|one| one.sid == sid).unwrap();
        let name = kind.name();
        let wanted = serde_json::json!([
            format!("arn:aws:iam::210987654321:role/{name}"),
            format!("arn:*:iam::000000000001:role/{name}")
        ]);
        assert_eq!(template.deployed(&found.resources[0], &values), wanted);
        let policy = template.at(&format!("/Resources/{role}/Properties/Policies"));
        let default = template.deployed(policy, &BTreeMap::new()).to_string();
        assert!(!default.contains("sts:AssumeRole"), "{role} may assume roles although no account is named");
        assert_eq!(there.at(&format!("/Resources/{resource}/Properties/RoleName")), name);
        let trust = there.at(&format!("/Resources/{resource}/Properties/AssumeRolePolicyDocument/Statement/0"));
        assert_eq!(trust["Principal"], serde_json::json!({"AWS": {"Ref": trusted}}));
        assert_eq!(template.at(&format!("/Outputs/{trusted}/Value"))["Fn::GetAtt"][0], role);
        assert_eq!(trust["Condition"]["StringEquals"]["sts:ExternalId"]["Ref"], "ExternalId");
        let allowed = statements(&there, resource);
        let actions: Vec<&str> = allowed.iter().flat_map(|one| one.actions.iter().map(String::as_str)).collect();
        assert_eq!(actions, own, "what {resource} may is what the code calls");
        let tagged = serde_json::json!({"Null": {"aws:ResourceTag/espalier:stack": "false"}});
        assert!(allowed.iter().all(|one| one.condition == tagged), "{resource}");
    }
}

/// Each key that signs does so for one role: its own policy names that role and no other, and IAM's policies,
/// which whoever administers the account may write, allow nobody else (KMS developer guide, key policies).
#[test]
fn each_key_signs_for_one_role() {
    let template = Template::read("template.yaml");
    let signing = |role: &str| {
        let all = statements(&template, role).into_iter();
        all.filter(|one| one.actions.iter().any(|it| it == "kms:Sign"))
            .flat_map(|one| one.resources)
            .collect::<Vec<_>>()
    };
    let mut signers = 0;
    for (role, _) in template.resources("AWS::IAM::Role") {
        let wanted = match role {
            "MintRole" => ["IssuingKey", "SecondIssuingKey"],
            "AuthorityRole" => ["RootKey", "SecondRootKey"],
            "SealRole" => ["SealingKey", ""],
            _ => ["", ""],
        };
        let arns = wanted.into_iter().filter(|key| !key.is_empty());
        let wanted: Vec<_> = arns.map(|key| serde_json::json!({"Fn::GetAtt": [key, "Arn"]})).collect();
        signers += wanted.len();
        assert_eq!(signing(role), wanted, "{role}");
    }
    assert_eq!(signers, 5);
    let keys = [
        ("RootKey", "AuthorityRole"),
        ("SecondRootKey", "AuthorityRole"),
        ("IssuingKey", "MintRole"),
        ("SecondIssuingKey", "MintRole"),
        ("SealingKey", "SealRole"),
    ];
    for (key, role) in keys {
        let policy = template.at(&format!("/Resources/{key}/Properties/KeyPolicy/Statement")).as_array().unwrap();
        let using: Vec<_> = policy.iter().filter(|one| texts(&one["Action"]).iter().any(|it| uses(it))).collect();
        let [only] = using.as_slice() else { panic!("{key}: {using:?}") };
        assert_eq!(only["Principal"]["AWS"]["Fn::GetAtt"], serde_json::json!([role, "Arn"]), "{key}");
        assert_eq!(only["Action"], "kms:Sign", "{key}");
        assert_eq!(only["Condition"]["StringEquals"]["kms:MessageType"], "DIGEST", "{key}");
        for kept in ["DeletionPolicy", "UpdateReplacePolicy"] {
            assert_eq!(template.at(&format!("/Resources/{key}/{kept}")), "Retain", "{key}");
        }
    }
}

/// Whether an action signs, or lets somebody be allowed to.
fn uses(action: &str) -> bool {
    ["kms:Sign", "kms:CreateGrant"].contains(&action) || action.contains('*')
}

#[test]
fn what_is_dangerous_is_bound_by_a_condition() {
    let template = Template::read("template.yaml");
    for (role, sid) in [
        ("ProvisionRole", "MakeLatticeTagged"),
        ("ProvisionRole", "ChangeLatticeOfOurs"),
        ("ProvisionRole", "AdmitOnOptedInGroups"),
        ("ProvisionRole", "AnswerLifecycleHooks"),
        ("ProvisionRole", "WriteAliases"),
        ("ProvisionRole", "WriteValidationRecords"),
        ("ProvisionRole", "RequestCertificates"),
        ("ProvisionRole", "TagCertificatesAtTheirRequest"),
        ("ProvisionRole", "MakePrivateZones"),
        ("ProvisionRole", "Tell"),
        ("ProvisionRole", "WriteMembers"),
        ("MintRole", "SealLeaves"),
        ("MintRole", "SignLeaves"),
        ("MintRole", "SignLeavesWithTheSecond"),
        ("AuthorityRole", "SignAuthorities"),
        ("AuthorityRole", "SignAuthoritiesWithTheSecond"),
        ("AuthorityRole", "KeepAuthorities"),
        ("SealRole", "SealSegments"),
        ("ExportRole", "SealLeaves"),
        ("DistributeRole", "OptedInInstances"),
        ("DistributeRole", "OptedInNodes"),
    ] {
        let found = statements(&template, role).into_iter().find(|statement| statement.sid == sid);
        assert!(found.is_some_and(|statement| statement.conditional), "{role}, {sid}");
    }
}

/// A partition key is the first of `dynamodb:LeadingKeys`, also for an operation on one item (DynamoDB developer guide,
/// conditions for fine-grained access control).
#[test]
fn provision_writes_only_its_own_partitions_of_the_ledger() {
    let template = Template::read("template.yaml");
    let role = statements(&template, "ProvisionRole");
    let writing: Vec<_> = role.iter().filter(|one| one.actions.iter().any(|it| it == "dynamodb:PutItem")).collect();
    let [only] = writing.as_slice() else { panic!("several statements let provision write the ledger") };
    let wanted = serde_json::json!({"ForAllValues:StringLike": {
        "dynamodb:LeadingKeys": [format!("{}*", ledger::MEMBERS)]
    }});
    assert_eq!(only.condition, wanted);
}

#[test]
fn authority_knows_of_the_ledger_only_the_authorities() {
    let template = Template::read("template.yaml");
    let role = statements(&template, "AuthorityRole");
    let wanted = serde_json::json!({"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [ledger::AUTHORITIES]}});
    let touching: Vec<_> = role.iter().filter(|one| one.actions.iter().any(|it| it.starts_with("dynamodb:"))).collect();
    let [only] = touching.as_slice() else { panic!("{touching:?}") };
    assert_eq!(only.condition, wanted);
}

/// What keeps evidence where it is: S3 locks each version, no version may be put in front of another, and one role adds.
#[test]
fn the_evidence_is_locked_and_only_seal_adds_to_it() {
    let template = Template::read("template.yaml");
    let bucket = template.at("/Resources/Evidence/Properties");
    assert_eq!(bucket["ObjectLockEnabled"], true);
    let retention = serde_json::json!({"Mode": {"Ref": "EvidenceLock"}, "Days": {"Ref": "EvidenceRetentionDays"}});
    assert_eq!(bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"], retention);
    assert_eq!(bucket["VersioningConfiguration"]["Status"], "Enabled");
    assert!(bucket["PublicAccessBlockConfiguration"].as_object().unwrap().values().all(|one| *one == true));
    let policy = template.at("/Resources/EvidencePolicy/Properties/PolicyDocument/Statement").as_array().unwrap();
    let denied = |sid: &str| {
        let found = policy.iter().find(|one| one["Sid"] == sid).unwrap_or_else(|| panic!("{sid} is gone"));
        assert_eq!((&found["Effect"], &found["Principal"]), (&"Deny".into(), &"*".into()), "{sid}");
        (found["Action"].clone(), found["Condition"].clone())
    };
    let put = serde_json::json!("s3:PutObject");
    let unconditional = serde_json::json!({"Null": {"s3:if-none-match": true}});
    assert_eq!(denied("NothingIsOverwritten"), (put.clone(), unconditional));
    let others = serde_json::json!({"ArnNotEquals": {"aws:PrincipalArn": {"Fn::GetAtt": ["SealRole", "Arn"]}}});
    assert_eq!(denied("OnlySealWrites"), (put, others));
    assert_eq!(denied("NothingIsHidden"), ("s3:DeleteObject".into(), serde_json::Value::Null));
    let clear = serde_json::json!({"Bool": {"aws:SecureTransport": false}});
    assert_eq!(denied("NothingInTheClear"), ("s3:*".into(), clear));
    let roles = template.resources("AWS::IAM::Role").map(|(role, _)| role);
    let puts =
        |role| statements(&template, role).into_iter().filter(|one| one.actions.iter().any(|it| it == "s3:PutObject"));
    let written: Vec<_> = roles
        .flat_map(|role| puts(role).flat_map(move |one| one.resources.into_iter().map(move |place| (role, place))))
        .collect();
    let sub = |text: &str| serde_json::json!({"Fn::Sub": text});
    // The copy of the bundle may be anywhere but here: the policy denies it.
    let copy = ("AuthorityRole", sub("arn:${AWS::Partition}:s3:::${TrustObject}"));
    assert_eq!(written, [copy, ("SealRole", sub("${Evidence.Arn}/*"))]);
}
