//! The user's side: a launch template, and a group with the hooks and tags of `examples/auto-scaling-group.yaml`.

use serde_json::{Map, Value, json};
use serde_norway::Value as Yaml;

use super::super::deploy;
use super::super::{STACK, StoryError, Tale};

/// The group's name, as the example gives it.
pub(super) const NAME: &str = "api-service-targets";

/// Makes the group, without an instance at first.
pub(super) async fn create(tale: &Tale) -> Result<(), StoryError> {
    let example = example()?;
    let properties = &example["Resources"]["Group"]["Properties"];
    let hooks = filled(&properties["LifecycleHookSpecificationList"]).to_string();
    let tags = filled(&properties["Tags"]).to_string();
    let template = template(tale).await?;
    let template = format!("LaunchTemplateId={template},Version=1");
    let subnets = deploy::output(&tale.network, "SubnetIds")?;
    let mut create = vec!["autoscaling", "create-auto-scaling-group", "--auto-scaling-group-name", NAME];
    create.extend(["--min-size", "0", "--max-size", "4", "--launch-template", &template]);
    create.extend(["--vpc-zone-identifier", subnets, "--tags", &tags, "--lifecycle-hook-specification-list", &hooks]);
    tale.world.aws().run(&create).await?;
    Ok(())
}

/// Changes how many instances the group is to have.
pub(super) async fn desire(tale: &Tale, desired: usize) -> Result<(), StoryError> {
    let desired = desired.to_string();
    let mut set = vec!["autoscaling", "set-desired-capacity", "--auto-scaling-group-name", NAME];
    set.extend(["--desired-capacity", &desired]);
    tale.world.aws().run(&set).await?;
    Ok(())
}

/// Deletes the group with its instances.
pub(super) async fn delete(tale: &Tale) -> Result<(), StoryError> {
    let delete = ["autoscaling", "delete-auto-scaling-group", "--auto-scaling-group-name", NAME, "--force-delete"];
    tale.world.aws().run(&delete).await?;
    Ok(())
}

/// What new instances are launched from: the image of the recipe's own.
async fn template(tale: &Tale) -> Result<String, StoryError> {
    let aws = tale.world.aws();
    let described = aws.run(&["ec2", "describe-instances", "--output", "json"]).await?;
    let data = json!({
        "ImageId": described["Reservations"][0]["Instances"][0]["ImageId"],
        "InstanceType": "t3.micro",
        "SecurityGroupIds": [deploy::output(&tale.network, "TargetGroupId")?],
    });
    let data = data.to_string();
    let mut create = vec!["ec2", "create-launch-template", "--launch-template-name", NAME];
    create.extend(["--launch-template-data", &data, "--output", "json"]);
    let made = aws.run(&create).await?;
    let id = made["LaunchTemplate"]["LaunchTemplateId"].as_str().map(str::to_owned);
    id.ok_or_else(|| StoryError::Unmet(format!("no launch template was made: {made}")))
}

fn example() -> Result<Yaml, StoryError> {
    let path = deploy::workspace()?.join("examples/auto-scaling-group.yaml");
    let text = std::fs::read_to_string(path).map_err(StoryError::io("reading examples/auto-scaling-group.yaml"))?;
    serde_norway::from_str(&text).map_err(StoryError::boxed("parsing examples/auto-scaling-group.yaml"))
}

/// A part of the template with the stack's name filled in, which is the only parameter that hooks and tags refer to.
fn filled(value: &Yaml) -> Value {
    match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(is) => Value::from(*is),
        Yaml::Number(number) => number.as_i64().map_or(Value::Null, Value::from),
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Sequence(all) => all.iter().map(filled).collect(),
        Yaml::Mapping(all) => {
            let named = all.iter().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), filled(value))));
            Value::Object(named.collect::<Map<_, _>>())
        }
        Yaml::Tagged(tagged) => {
            let text = tagged.value.as_str().unwrap_or_default();
            if text == "StackName" { STACK.into() } else { text.replace("${StackName}", STACK).into() }
        }
    }
}
