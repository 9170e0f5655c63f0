//! Breaking hosts and putting them right, as their owners or their enemies would.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use time::OffsetDateTime;

use crate::story::deploy;
use crate::story::judge::DOMAIN;
use crate::story::naive::{FILES, restart};
use crate::story::world::Host;
use crate::story::{STACK, StoryError, Tale};

/// How long the fabric may believe what it last read of EC2.
const BELIEVED: std::time::Duration = std::time::Duration::from_secs(6);

/// Overwrites the pair that is served by one that somebody made himself, and has the server take it.
pub(super) async fn replace_pair(tale: &Tale, host: &Host) -> Result<(), StoryError> {
    let made = tale.world.run.join("by-hand");
    std::fs::create_dir_all(&made).map_err(StoryError::io("making a pair by hand"))?;
    let (key, leaf) = (made.join("key.pem"), made.join("leaf.pem"));
    let name = format!("subjectAltName=DNS:{DOMAIN}");
    let mut make = tokio::process::Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    make.args(["-subj", "/CN=by hand", "-addext", &name, "-keyout"]).arg(&key).arg("-out").arg(&leaf);
    run(make, "openssl req").await?;
    let read = |path: &Path| std::fs::read(path).map_err(StoryError::io("reading a pair made by hand"));
    let (key, leaf) = (read(&key)?, read(&leaf)?);
    put_pair(tale, host, &key, &leaf).await
}

/// Overwrites the pair that is served by another one, and has the server take it.
pub(in crate::story) async fn put_pair(tale: &Tale, host: &Host, key: &[u8], leaf: &[u8]) -> Result<(), StoryError> {
    let current = host.guest.certificates.join(STACK).join("current");
    for name in FILES {
        let content = match name {
            "key.pem" => key.to_vec(),
            "haproxy.pem" => [leaf, key].concat(),
            _ => leaf.to_vec(),
        };
        if current.join(name).exists() {
            std::fs::write(current.join(name), content).map_err(StoryError::io("overwriting a pair"))?;
        }
    }
    restart(tale, &host.guest.restart()).await
}

/// A copy of everything the installer keeps on a host.
pub(super) fn image(host: &Host) -> Result<PathBuf, StoryError> {
    let (stack, image) = (host.guest.certificates.join(STACK), host.guest.home.join("image"));
    copy(&stack, &image)?;
    Ok(image)
}

/// Puts such a copy back, and has the server take it.
pub(super) async fn restore(tale: &Tale, host: &Host, image: &Path) -> Result<(), StoryError> {
    let stack = host.guest.certificates.join(STACK);
    std::fs::remove_dir_all(&stack).map_err(StoryError::io("restoring a host"))?;
    copy(image, &stack)?;
    std::fs::remove_dir_all(image).map_err(StoryError::io("restoring a host"))?;
    restart(tale, &host.guest.restart()).await
}

fn copy(from: &Path, to: &Path) -> Result<(), StoryError> {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    match status.map_err(StoryError::io("copying a host's certificates"))?.success() {
        true => Ok(()),
        false => Err(StoryError::Unmet(format!("cp -a {} {} failed", from.display(), to.display()))),
    }
}

/// Gives the instance a new security group that admits nobody; the groups it had.
pub(in crate::story) async fn close(tale: &Tale, host: &Host) -> Result<Vec<String>, StoryError> {
    let aws = tale.world.aws();
    let vpc = deploy::output(&tale.network, "VpcId")?;
    let name = format!("closed-{}", OffsetDateTime::now_utc().unix_timestamp_nanos());
    let create = ["ec2", "create-security-group", "--group-name", &name, "--description", "closed", "--vpc-id", vpc];
    let made = aws.run(&[&create[..], &["--output", "json"]].concat()).await?;
    let closed = made["GroupId"].as_str().unwrap_or_default().to_owned();
    let network = tale.world.fabric.network().await.map_err(StoryError::boxed("reading the instances"))?;
    let former = network.instances.get(&host.id).map(|instance| instance.groups.clone()).unwrap_or_default();
    groups(tale, host, &[closed]).await?;
    Ok(former)
}

/// Gives the instance these security groups.
pub(in crate::story) async fn open(tale: &Tale, host: &Host, former: &[String]) -> Result<(), StoryError> {
    groups(tale, host, former).await
}

async fn groups(tale: &Tale, host: &Host, groups: &[String]) -> Result<(), StoryError> {
    let aws = tale.world.aws();
    let described = aws.run(&["ec2", "describe-instances", "--instance-ids", &host.id, "--output", "json"]).await?;
    let interface = &described["Reservations"][0]["Instances"][0]["NetworkInterfaces"][0]["NetworkInterfaceId"];
    let interface = interface.as_str().unwrap_or_default();
    let mut set = vec!["ec2", "modify-network-interface-attribute", "--network-interface-id", interface, "--groups"];
    set.extend(groups.iter().map(String::as_str));
    aws.run(&set).await?;
    // The same once more: moto keeps the groups that an instance was run with beside those of its interface.
    let mut set = vec!["ec2", "modify-instance-attribute", "--instance-id", &host.id, "--groups"];
    set.extend(groups.iter().map(String::as_str));
    aws.run(&set).await?;
    tokio::time::sleep(BELIEVED).await;
    let network = tale.world.fabric.network().await.map_err(StoryError::boxed("reading the instances"))?;
    let carried = network.instances.get(&host.id).map(|instance| &instance.groups[..]).unwrap_or_default();
    if BTreeSet::from_iter(carried) != BTreeSet::from_iter(groups) {
        return Err(StoryError::Unmet(format!("{} carries {carried:?} and was given {groups:?}", host.id)));
    }
    Ok(())
}

/// Stops or starts the instance; its agent goes and comes with it.
pub(super) async fn power(tale: &Tale, host: &Host, command: &str) -> Result<(), StoryError> {
    tale.world.aws().run(&["ec2", command, "--instance-ids", &host.id, "--output", "json"]).await?;
    tale.world.ssm.set_online(&host.id, command == "start-instances");
    tokio::time::sleep(BELIEVED).await;
    Ok(())
}

/// Makes the server's reload end like this, without reloading anything.
pub(in crate::story) fn break_reload(host: &Host, instead: &str) -> Result<(), StoryError> {
    let program = reload_program(host);
    std::fs::rename(&program, program.with_extension("aside")).map_err(StoryError::io("breaking a reload"))?;
    let aside = program.with_extension("aside");
    let body = format!(
        "#!/bin/sh\ncase \"$*\" in *graceful | *reload | '') {instead} ;; esac\nexec '{}' \"$@\"\n",
        aside.display()
    );
    std::fs::write(&program, body).map_err(StoryError::io("breaking a reload"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).map_err(StoryError::io("breaking a reload"))
}

/// Puts the program back.
pub(in crate::story) fn mend_reload(host: &Host) -> Result<(), StoryError> {
    let program = reload_program(host);
    std::fs::rename(program.with_extension("aside"), &program).map_err(StoryError::io("mending a reload"))
}

/// What the installer calls to have the server reload.
fn reload_program(host: &Host) -> PathBuf {
    let control = host.guest.home.join("control");
    if control.exists() { control } else { host.guest.home.join("hooks").join("reload") }
}

pub(in crate::story) async fn run(mut command: tokio::process::Command, what: &str) -> Result<(), StoryError> {
    let output = command.stdin(Stdio::null()).output().await.map_err(StoryError::io("making a pair by hand"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(StoryError::Unmet(format!("{what}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// Lets the authority sign leaves no more, or again: `disable-key`, `enable-key`.
pub(super) async fn sign(tale: &Tale, verb: &str) -> Result<(), StoryError> {
    let alias = format!("alias/{}-issuing", deploy::CONTROL_PLANE);
    let key = tale.world.aws().run(&["kms", "describe-key", "--key-id", &alias, "--output", "json"]).await?;
    // Neither call takes an alias.
    let id = key["KeyMetadata"]["KeyId"].as_str().unwrap_or_default();
    tale.world.aws().run(&["kms", verb, "--key-id", id]).await?;
    Ok(())
}
