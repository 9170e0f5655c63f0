//! The page for whoever has to approve the roles, printed from the template.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use espalier_tests::{Statement, Template, read, root, statements};
use serde_json::Value;

const HEAD: &str = "\
# Roles

What each role may do, for whoever has to approve it. Printed from `template.yaml` and `prober.yaml` by `--test contracts`, which also holds every
role to the calls that the code makes, both ways, and lets none be wider than a sentence explains. `tests/template` adds the
judgement of checkers that are not ours.

`…` stands for partition, Region and account of the control plane's own. A role is assumed by the one service named, and by
nobody else. A policy without a role is for roles of yours.
";

#[test]
fn the_page_of_roles_is_the_templates() {
    let mut page = HEAD.to_owned();
    page.push_str(&sections("template.yaml", ""));
    page.push_str(&sections("prober.yaml", " of `prober.yaml`"));
    expectorate::assert_contents(root().join("docs/roles.md"), &page);
}

/// A section for each role of a template; `whose` finishes its heading.
fn sections(path: &str, whose: &str) -> String {
    let (template, source, mut page) = (Template::read(path), read(path), String::new());
    for (role, properties) in template.resources("AWS::IAM::Role") {
        let by = properties["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"].as_str().unwrap();
        let what = properties["Description"].as_str().unwrap_or_else(|| panic!("{role} does not say what it is for"));
        write!(page, "\n## {role}{whose}\n\nFor `{by}`. {what}\n\n{}", table(&template, &source, role)).unwrap();
    }
    for (policy, properties) in template.resources("AWS::IAM::ManagedPolicy") {
        let what = properties["Description"].as_str().unwrap_or_default();
        write!(page, "\n## {policy}{whose}\n\n{what}.\n\n{}", table(&template, &source, policy)).unwrap();
    }
    page
}

fn table(template: &Template, source: &str, role: &str) -> String {
    let head = "| statement | actions | resources | condition | why |\n| --- | --- | --- | --- | --- |\n";
    let rows = statements(template, role);
    let rows = rows.iter().map(|statement| row(template, statement, &remark(source, &statement.sid)));
    rows.fold(head.to_owned(), |page, row| page + &row)
}

fn row(template: &Template, statement: &Statement, why: &str) -> String {
    let effect = if statement.allows { "" } else { " (denies)" };
    let actions = statement.actions.iter().map(|action| format!("`{action}`")).collect::<Vec<_>>().join(", ");
    let resources = statement.resources.iter().map(|one| resource(template, one)).collect::<Vec<_>>().join(", ");
    let condition =
        if statement.conditional { format!("`{}`", shorter(&compact(&statement.condition))) } else { String::new() };
    format!("| {}{effect} | {actions} | {resources} | {condition} | {why} |\n", statement.sid)
}

fn resource(template: &Template, value: &Value) -> String {
    if value.get("Fn::Split").is_some() {
        let each = template.deployed(value, &BTreeMap::from([("CertificateAccountIds", "ACCOUNT")]));
        return format!("`{}` in each account of `CertificateAccountIds`", each[0].as_str().unwrap());
    }
    let text = value.as_str().or(value["Fn::Sub"].as_str()).map(str::to_owned);
    let of = value["Ref"].as_str().or(value["Fn::GetAtt"][0].as_str()).or(value["Fn::GetAtt"].as_str());
    let text = text.unwrap_or_else(|| of.map_or_else(|| compact(value), |name| format!("${{{name}}}")));
    format!("`{}`", shorter(&text))
}

/// A condition without the template's own functions.
fn compact(value: &Value) -> String {
    let text = serde_json::to_string(value).unwrap();
    let function = regex::Regex::new(r#"\{"(?:Fn::Sub|Ref)":"([^"]*)"\}"#).unwrap();
    function.replace_all(&text, "\"$1\"").into_owned()
}

fn shorter(text: &str) -> String {
    let own =
        regex::Regex::new(r"arn:\$\{AWS::Partition\}:([a-z0-9-]+):\$\{AWS::Region\}:\$\{AWS::AccountId\}:").unwrap();
    own.replace_all(text, "$1:…:").replace("${AWS::StackName}", "STACK").replace("${!", "${").replace('|', "\\|")
}

/// The comment above a statement.
fn remark(source: &str, sid: &str) -> String {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let name = format!("Sid: {sid}");
    let at = lines.iter().position(|line| line.trim_start_matches("- ") == name).unwrap_or_default();
    // An anchor stands on a line of its own above the name.
    let above = if at > 0 && lines[at - 1].starts_with("- &") { at - 1 } else { at };
    let mut said: Vec<&str> = lines[..above].iter().rev().map_while(|line| line.strip_prefix("# ")).collect();
    said.reverse();
    said.join(" ").trim_matches(['.', ' ']).to_owned()
}
