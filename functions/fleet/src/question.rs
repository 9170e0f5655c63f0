//! What a dashboard asks: the widget's own parameters, beside a `widgetContext` of CloudWatch's.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/add_custom_widget_dashboard_about.html>

use espalier_domain::id::StackName;
use espalier_edge::{EdgeError, Request, strict};
use serde::Deserialize;
use serde_json::Value;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) about: Subject,
    pub(crate) theme: Theme,
}

/// What it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// What this widget is (`describe`): the dashboard's editor shows it.
    Itself,
    /// Every stack that has a spec.
    Fleet,
    /// One stack.
    Stack(StackName),
}

/// The dashboard's colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Theme {
    Dark,
    /// Also for a word that CloudWatch may add one day.
    #[default]
    #[serde(other)]
    Light,
}

/// As it comes. What CloudWatch adds, or whoever edits the widget, is ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    describe: bool,
    stack: Option<String>,
    #[serde(rename = "widgetContext")]
    context: Context,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    theme: Theme,
}

impl Request for Question {
    fn parse(payload: Value) -> Result<Self, EdgeError> {
        let asked: Asked = strict(payload, "widget's call")?;
        let about = match asked.stack {
            _ if asked.describe => Subject::Itself,
            None => Subject::Fleet,
            Some(name) => Subject::Stack(
                StackName::parse(&name)
                    .map_err(|error| EdgeError::invalid(format!("widget's call, field `stack`: {error}")))?,
            ),
        };
        Ok(Self { about, theme: asked.context.theme })
    }

    fn subject(&self) -> espalier_edge::Subject {
        let stack = if let Subject::Stack(name) = &self.about { Some(name.clone()) } else { None };
        espalier_edge::Subject { stack, ..espalier_edge::Subject::of("question") }
    }
}
