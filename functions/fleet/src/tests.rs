//! The page as a browser gets it, and what is asked.

use espalier_edge::Request as _;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::page::{self, Known, Stack, View};
use crate::question::{Question, Subject, Theme};

const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

const VIEW: View<'_> =
    View { now: NOW, theme: Theme::Dark, endpoint: "arn:aws:lambda:eu-west-1:111122223333:function:espalier-fleet" };

/// Blocks and status as they are written in answers.
fn known(name: &str, found: &Value) -> Stack {
    let blocks = found.get("blocks").cloned().unwrap_or_else(|| json!([]));
    let blocks = serde_json::from_value(blocks).unwrap();
    let status = Some(serde_json::from_value(found["status"].clone()).unwrap());
    Stack { name: name.to_owned(), found: Ok(Known { blocks, status }) }
}

fn leaf(generation: u32) -> Value {
    json!({
        "generation": generation, "serial": "5a01", "parameter": format!("/espalier-leaf/search/shared/{generation}"), "dnsNames": ["pay.example.com"], "mintedAt": "2026-11-17T12:00:00Z",
        "notAfter": "2026-11-25T12:00:00Z", "because": "the leaf before is near its end"
    })
}

fn good() -> Stack {
    let target = |id: &str| {
        json!({
            "target": id, "phase": "current", "generation": 4, "endsAt": "2026-11-25T12:00:00Z", "seenAt": "2026-11-21T11:59:00Z",
            "registered": true, "slackS": 201_600
        })
    };
    known(
        "payments",
        &json!({
            "status": {
                "leaf": leaf(4), "rotation": { "epoch": 4, "begunAt": "2026-11-17T11:59:00Z", "endedAt": "2026-11-17T12:01:00Z" },
                "through": { "at": "2026-11-21T11:59:15Z", "samples": 6, "good": 6, "faults": [] },
                "targets": [target("i-0aaaaaaaaaaaaaaa1"), target("i-0aaaaaaaaaaaaaaa2")]
            }
        }),
    )
}

fn rotating() -> Stack {
    known(
        "ledger",
        &json!({
            "status": {
                "leaf": leaf(9), "rotation": { "epoch": 9, "begunAt": "2026-11-21T11:58:30Z", "advance": advance() },
                "targets": [
                    { "target": "i-0bbbbbbbbbbbbbbb1", "phase": "current", "generation": 9, "endsAt": "2026-11-25T12:00:00Z", "slackS": 200_000 },
                    { "target": "i-0bbbbbbbbbbbbbbb2", "phase": "delivering", "generation": 8, "endsAt": "2026-11-22T12:00:00Z", "slackS": 20_000 }
                ]
            }
        }),
    )
}

fn advance() -> Value {
    json!({ "stage": "waves", "proven": 1, "underWay": 1, "failed": 0, "waiting": 0 })
}

/// What a server said comes with everything that HTML would obey.
fn blocked() -> Stack {
    known(
        "search",
        &json!({
            "blocks": [{ "code": "Stuck", "because": "i-0ccccccccccccccc1 says <script>alert('&')</script>" }],
            "status": {
                "leaf": leaf(2),
                "targets": [{
                    "target": "i-0ccccccccccccccc1", "phase": "stuck", "because": "reloadFailed: \"<img src=x onerror=y>", "generation": 1,
                    "endsAt": "2026-11-21T11:00:00Z", "faults": ["Expired"], "registered": false, "slackS": -3_600
                }]
            }
        }),
    )
}

fn silent() -> Stack {
    Stack { name: "<b>".to_owned(), found: Err("this is no stack's name".to_owned()) }
}

#[test]
fn the_fleet_and_a_stack_as_a_browser_gets_them() {
    let fleet = [good(), rotating(), blocked(), silent()];
    expectorate::assert_contents("src/golden/fleet.html", &lines(&page::fleet(&fleet, &VIEW)));
    expectorate::assert_contents("src/golden/stack.html", &lines(&page::stack(&blocked(), &VIEW)));
}

/// A line for each element, for whoever reads the difference.
fn lines(html: &str) -> String {
    html.replace("><", ">\n<") + "\n"
}

#[test]
fn nothing_that_was_said_becomes_an_element() {
    for html in
        [page::fleet(&[blocked(), silent()], &VIEW), page::stack(&blocked(), &VIEW), page::stack(&silent(), &VIEW)]
    {
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("<b>"), "{html}");
    }
}

#[test]
fn who_needs_somebody_is_counted_once() {
    let count = |stacks: &[Stack]| {
        let html = page::fleet(stacks, &VIEW);
        html.split("</strong><span>need somebody").next().unwrap().rsplit('>').next().unwrap().to_owned()
    };
    assert_eq!(count(&[good(), rotating()]), "0");
    assert_eq!(count(&[good(), rotating(), blocked(), silent()]), "2");
    assert!(page::fleet(&[], &VIEW).contains("No stack has a spec yet."));
}

#[test]
fn a_dashboard_asks_for_all_for_one_or_for_what_this_is() {
    let asked = |payload: Value| Question::parse(payload);
    let about = |payload: Value| asked(payload).unwrap().about;
    assert_eq!(about(json!({ "describe": true })), Subject::Itself);
    assert_eq!(about(json!({ "widgetContext": { "width": 588 } })), Subject::Fleet);
    assert!(matches!(about(json!({ "stack": "payments" })), Subject::Stack(name) if name.as_str() == "payments"));
    for (word, theme) in [("dark", Theme::Dark), ("light", Theme::Light), ("sepia", Theme::Light)] {
        assert_eq!(asked(json!({ "widgetContext": { "theme": word } })).unwrap().theme, theme, "{word}");
    }
    for (payload, field) in [
        (json!({ "stack": "Not A Stack" }), "`stack`"),
        (json!({ "stack": 7 }), "field `stack`"),
        (json!({ "describe": "yes" }), "field `describe`"),
        (json!({ "widgetContext": { "theme": [] } }), "field `widgetContext.theme`"),
        (json!(7), "the widget's call is not a JSON object"),
        (json!([]), "the widget's call is not a JSON object"),
    ] {
        let error = asked(payload).unwrap_err();
        assert!(error.text.contains(field), "{error:?}");
    }
}
