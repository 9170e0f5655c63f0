//! The lab's world: emulators, stand-ins, endpoints, targets, wired together and taken apart.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::process::Child;

use super::cli::{Cli, credentials};
use super::watch::until;
use super::{Options, Server, StoryError};
use crate::acm::Acm;
use crate::autoscaling::AutoScaling;
use crate::aws::{ACCOUNT, REGION};
use crate::chaos::Chaos;
use crate::cloudformation::CloudFormationProxy;
use crate::dns::Dns;
use crate::eni::Eni;
use crate::events::EventRouter;
use crate::fabric::{Attachment, Fabric, Instance};
use crate::gateway::Gateway;
use crate::lattice::{self, Lattice};
use crate::port::unused;
use crate::process::{Launch, Processes};
use crate::setup::Tools;
use crate::ssm::{self, ManagedInstance, Ssm};
use crate::sts::Sts;
use crate::target::{Guest, Kind};
use crate::xray::{self, Daemon};

/// The services MiniStack answers for.
const MINISTACK_SERVICES: [&str; 11] = [
    "dynamodb",
    "eventbridge",
    "secrets_manager",
    "sfn",
    "sns",
    "sqs",
    "kms",
    "lambda",
    "s3",
    "iam",
    "cloudwatch_logs",
];

/// Everything that runs.
pub struct World {
    /// This run's directory.
    pub run: PathBuf,
    /// The tools' directory.
    pub tools: Tools,
    /// Every process.
    pub processes: Processes,
    /// The endpoints.
    pub gateway: Gateway,
    /// MiniStack's own address, for looking without being counted.
    pub ministack: String,
    /// moto's own address.
    pub moto: String,
    /// The network's truth.
    pub fabric: Fabric,
    /// VPC Lattice.
    pub lattice: Lattice,
    /// The resolver.
    pub dns: Dns,
    /// The bus.
    pub router: EventRouter,
    /// Faults, none of them in force until a story arms them.
    pub chaos: Chaos,
    /// ACM.
    pub acm: Acm,
    /// The roles of another account.
    pub sts: Sts,
    /// Auto Scaling.
    pub autoscaling: AutoScaling,
    /// Systems Manager.
    pub ssm: Ssm,
    /// X-Ray's daemon.
    pub xray: Daemon,
    /// What was handed to stand-ins.
    pub handed_over: Arc<Mutex<Vec<String>>>,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// What stands before CloudFormation.
    pub proxy: CloudFormationProxy,
    children: Vec<Child>,
}

/// A target as the lab runs it.
pub struct Host {
    /// The instance's id.
    pub id: String,
    /// Its private address.
    pub address: IpAddr,
    /// What it runs: `lab`, `apache`, ...
    pub server: &'static str,
    /// Its server and files.
    pub guest: Guest,
    _interface: Eni,
}

impl World {
    /// Starts emulators and stand-ins; nothing is deployed yet.
    pub async fn start(options: &Options, tools: Tools) -> Result<Self, StoryError> {
        let (run, processes) = cleared(&absolute(&options.directory)?).await?;
        let port = || unused().map(|address| address.port()).map_err(StoryError::io("finding a port"));
        let (moto_port, ministack_port) = (port()?, port()?);
        let (moto, ministack) = (base(moto_port), base(ministack_port));

        let chaos = Chaos::of(processes.clone());
        let router = EventRouter::new(&ministack).under(&chaos);
        let sts = Sts::start(&ministack).await.map_err(StoryError::io("starting STS"))?;
        let acm = Acm::start_validating(router.clone(), run.join("acm"), Some(&moto), Some(sts.clone())).await;
        let acm = acm.map_err(StoryError::io("starting ACM"))?;
        let autoscaling = AutoScaling::start(&moto, Arc::new(router.clone()))
            .await
            .map_err(StoryError::io("starting Auto Scaling"))?;
        let ssm = Ssm::start(ssm::Options::new(&ministack, run.join("commands")), Arc::new(router.clone()))
            .await
            .map_err(StoryError::io("starting SSM"))?;
        let xray = Daemon::start().map_err(StoryError::io("starting X-Ray's daemon"))?;
        let fabric = Fabric::of_ec2(&moto, REGION);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let lattice = Lattice::start(any, fabric.clone(), lattice::Options::default())
            .await
            .map_err(StoryError::boxed("starting VPC Lattice"))?;
        let dns =
            Dns::start(any, lattice.clone(), &moto, fabric.clone()).await.map_err(StoryError::boxed("starting DNS"))?;
        let handed_over: Arc<Mutex<Vec<String>>> = Arc::default();
        let said = Arc::clone(&handed_over);
        let say = move |what: &str| said.lock().map_or((), |mut said| said.push(what.to_owned()));
        let proxy = CloudFormationProxy::start(&ministack, ssm.clone(), router.clone(), say)
            .await
            .map_err(StoryError::boxed("starting CloudFormation"))?;

        let at = |address: SocketAddr| format!("http://{address}");
        let routes = routes(
            &ministack,
            [
                ("ec2", moto.clone()),
                ("route_53", moto.clone()),
                ("acm", at(acm.address())),
                ("sts", at(sts.address())),
                ("auto_scaling", at(autoscaling.address())),
                ("ssm", ssm.url()),
                ("vpc_lattice", at(lattice.address())),
                ("cloudformation", at(proxy.address())),
            ],
        );
        let gateway = Gateway::start_under(&routes, &chaos).await.map_err(StoryError::io("opening the endpoints"))?;
        let mut world = Self {
            run,
            tools,
            processes,
            gateway,
            ministack,
            moto,
            fabric,
            lattice,
            dns,
            router,
            chaos,
            acm,
            sts,
            autoscaling,
            ssm,
            xray,
            handed_over,
            hosts: Vec::new(),
            proxy,
            children: Vec::new(),
        };
        world.emulators(moto_port, ministack_port).await?;
        Ok(world)
    }

    async fn emulators(&mut self, moto_port: u16, ministack_port: u16) -> Result<(), StoryError> {
        let temporary = self.run.join("tmp");
        std::fs::create_dir_all(&temporary).map_err(StoryError::io("the run's directory"))?;
        let temporary = temporary.to_string_lossy().into_owned();
        let mut environment = credentials(&self.run);
        environment.insert("TMPDIR".into(), temporary.clone());
        environment.insert("PYTHONUNBUFFERED".into(), "1".into());
        environment.insert("MOTO_ACCOUNT_ID".into(), ACCOUNT.into());
        let arguments = ["-H", "127.0.0.1", "-p", &moto_port.to_string()].map(str::to_owned).to_vec();
        self.launch("moto", "moto_server", arguments, environment.clone())?;

        // MiniStack's bootstraps inherit this: the functions find the lab without a word in the template.
        environment.extend(self.gateway.endpoints().clone());
        for (name, value) in [
            ("GATEWAY_PORT", ministack_port.to_string()),
            ("BIND_HOST", "127.0.0.1".into()),
            ("MINISTACK_REGION", REGION.into()),
            ("MINISTACK_ACCOUNT_ID", ACCOUNT.into()),
            ("STATE_DIR", format!("{temporary}/ministack")),
            ("S3_DATA_DIR", format!("{temporary}/s3")),
            ("LAMBDA_WARM_TTL_SECONDS", "600".into()),
            ("IOT_MTLS_ENABLED", "0".into()),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON".into()),
            ("AWS_XRAY_DAEMON_ADDRESS", self.xray.address().to_string()),
        ] {
            environment.insert(name.to_owned(), value);
        }
        let traced = self.run.join("start.py");
        std::fs::write(&traced, xray::MINISTACK).map_err(StoryError::io("the run's directory"))?;
        self.launch("ministack", "python", vec![traced.to_string_lossy().into_owned()], environment)?;
        for (name, port) in [("moto", moto_port), ("ministack", ministack_port)] {
            self.listening(name, port).await?;
        }
        Ok(())
    }

    fn launch(
        &mut self,
        name: &str,
        tool: &str,
        arguments: Vec<String>,
        environment: BTreeMap<String, String>,
    ) -> Result<(), StoryError> {
        let launch = Launch { name: name.to_owned(), program: self.tools.path(tool), arguments, environment };
        let child = self.processes.start(&launch).map_err(StoryError::boxed("starting an emulator"))?;
        self.children.push(child);
        Ok(())
    }

    async fn listening(&mut self, name: &str, port: u16) -> Result<(), StoryError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let look = async || Ok::<_, StoryError>(tokio::net::TcpStream::connect(address).await.ok());
        match until(Duration::from_secs(60), Duration::from_millis(100), look).await? {
            Some(_) => Ok(()),
            None => Err(StoryError::Unmet(format!("{name} did not listen within a minute; see its log"))),
        }
    }

    /// The AWS CLI with the lab's endpoints.
    pub fn aws(&self) -> Cli {
        Cli::new(&self.tools.path("aws"), &self.run, self.gateway.endpoints())
    }

    /// Gives every instance a server, an interface and an SSM Agent.
    pub async fn hosts(&mut self, servers: &[Server], stack: &str, port: u16) -> Result<(), StoryError> {
        let network = self.fabric.network().await.map_err(StoryError::boxed("reading the instances"))?;
        let instances: Vec<(String, Instance)> =
            network.instances.iter().map(|(id, instance)| (id.clone(), instance.clone())).collect();
        for (index, (id, instance)) in instances.into_iter().enumerate() {
            let server = servers.get(index % servers.len().max(1)).copied().unwrap_or(Server::Lab);
            self.boot(server, id, &instance, stack, port).await?;
        }
        Ok(())
    }

    /// The instance is gone: its interface, and its agent.
    pub fn retire(&mut self, id: &str) {
        self.hosts.retain(|host| host.id != id);
        self.ssm.deregister(id);
    }

    /// Gives one instance a server, an interface and an SSM Agent, as its user data would.
    pub async fn boot(
        &mut self,
        server: Server,
        id: String,
        instance: &Instance,
        stack: &str,
        port: u16,
    ) -> Result<(), StoryError> {
        let kind = match server {
            Server::Lab => Kind::Lab,
            Server::Apache => Kind::Apache,
            Server::Nginx => Kind::Nginx,
            Server::Haproxy => Kind::Haproxy,
        };
        let home = self.run.join("hosts").join(&id);
        let guest = Guest::prepare(kind, &home, &id, stack).map_err(StoryError::io("preparing a target"))?;
        if let Some(arguments) = &guest.server {
            let program = std::env::current_exe().map_err(StoryError::io("finding the lab's own binary"))?;
            let (name, arguments) = (format!("target-{id}"), arguments.clone());
            let launch = Launch { name, program, arguments, environment: BTreeMap::new() };
            let child = self.processes.start(&launch).map_err(StoryError::boxed("starting a target's server"))?;
            self.children.push(child);
        }
        let listen = SocketAddr::new(instance.address, port);
        let interface = Eni::start(self.fabric.clone(), &id, listen, guest.listen)
            .await
            .map_err(StoryError::boxed("opening a target's interface"))?;
        self.ssm
            .register(ManagedInstance {
                id: id.clone(),
                ip: instance.address,
                tags: instance.tags.clone(),
                online: true,
                agent_version: "3.3.3572.0".to_owned(),
                environment: self.agent_environment(&id, &guest),
                directory: guest.home.clone(),
            })
            .map_err(StoryError::boxed("registering a target"))?;
        let (address, server) = (instance.address, server.name());
        self.hosts.push(Host { id, address, server, guest, _interface: interface });
        Ok(())
    }

    /// What a command on a target finds: the pinned AWS CLI, its own role's (dummy) credentials, the lab's `ssm`.
    fn agent_environment(&self, id: &str, guest: &Guest) -> BTreeMap<String, String> {
        let mut environment = credentials(&guest.home);
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", self.tools.bin().display());
        environment.insert("PATH".into(), path);
        environment.insert("AWS_SSM_INSTANCE_ID".into(), id.to_owned());
        environment.insert("ESPALIER_CONF".into(), guest.host_conf.to_string_lossy().into_owned());
        let (marker, value) = self.processes.marker();
        environment.insert(marker, value);
        for service in ["AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL_STS"] {
            environment.extend(self.gateway.endpoints().get(service).map(|url| (service.to_owned(), url.clone())));
        }
        environment
    }

    /// A place a client or the prober connects from.
    pub fn attach(&self, address: IpAddr, vpc: &str, groups: &[String]) {
        self.fabric.attach(Attachment { address, vpc: vpc.to_owned(), groups: groups.to_vec() });
    }

    /// Ends every process of the world.
    pub async fn stop(mut self) {
        self.processes.end_all().await;
        for child in &mut self.children {
            // Already signalled; collected so that it leaves no zombie.
            let _ = child.wait().await;
        }
        self.lattice.stop().await;
    }
}

/// An empty directory for a run, and whoever will run in it.
async fn cleared(directory: &Path) -> Result<(PathBuf, Processes), StoryError> {
    let run = directory.join("run");
    // Processes first: whatever an earlier run left behind still writes into its directory.
    let processes = Processes::of(directory, &directory.join("logs")).await;
    let processes = processes.map_err(StoryError::io("the lab's directory"))?;
    let _ = std::fs::remove_dir_all(&run);
    std::fs::create_dir_all(&run).map_err(StoryError::io("the run's directory"))?;
    Ok((run, processes))
}

/// Who answers for a service; MiniStack for what nobody else does.
fn routes(ministack: &str, others: [(&'static str, String); 8]) -> Vec<(&'static str, String)> {
    let of_ministack = MINISTACK_SERVICES.iter().map(|service| (*service, ministack.to_owned()));
    others.into_iter().chain(of_ministack).collect()
}

fn base(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn absolute(directory: &Path) -> Result<PathBuf, StoryError> {
    std::fs::create_dir_all(directory).map_err(StoryError::io("the lab's directory"))?;
    directory.canonicalize().map_err(StoryError::io("the lab's directory"))
}
