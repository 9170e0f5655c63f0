//! Certificates as ACM issues them: keys, authorities and the encryption of exported keys, all by OpenSSL.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use tokio::process::Command;
use tokio::sync::Mutex;
use x509_parser::prelude::{FromDer as _, Pem, X509Certificate};

use super::Kind;

/// A certificate, what stands above it, and where its key lies.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// PEM.
    pub(super) certificate: String,
    /// The certificates above it, its issuer first, PEM.
    pub(super) chain: String,
    /// The serial number's octets.
    pub(super) serial: Vec<u8>,
    key: PathBuf,
}

/// The authorities that ACM issues from.
#[derive(Debug, Clone)]
pub(super) struct Authorities {
    directory: PathBuf,
    /// How many certificates were issued; held while one is.
    issued: Arc<Mutex<u32>>,
}

impl Authorities {
    pub(super) fn at(directory: PathBuf) -> Self {
        Self { directory, issued: Arc::default() }
    }

    /// Issues a certificate for names with a kind of key. Amazon's public ones have a chain that ends in a cross-signed
    /// root; those of a private authority bring its root along.
    pub(super) async fn issue(&self, names: &[String], kind: Kind, key: &str) -> io::Result<Pair> {
        let mut issued = self.issued.lock().await;
        std::fs::create_dir_all(&self.directory)?;
        let (name, above) = match kind {
            Kind::InUse | Kind::Public => ("public", ["public-root", "public-1", "public-2"].as_slice()),
            Kind::Private => ("private", ["private-root", "private-1"].as_slice()),
        };
        let key = match key {
            "RSA_2048" => RSA,
            "EC_secp384r1" => CURVE_384,
            _ => CURVE,
        };
        let domain = names.first().map_or("", String::as_str);
        let listed: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let listed = listed.join(",");
        if !self.directory.join(format!("{name}-1.pem")).exists() {
            self.authorities(above).await?;
        }
        *issued += 1;
        let leaf = format!("leaf-{issued}");
        std::fs::write(
            self.directory.join("leaf.ext"),
            format!(
                "subjectAltName={listed}\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
            ),
        )?;
        let issuer = above.last().copied().unwrap_or_default();
        self.make(&leaf, domain, issuer, key, "leaf.ext", 198).await?;
        // A public chain ends below the root that nobody is sent; a private one brings it along.
        let sent = above.iter().rev().take(2);
        let chain = sent.map(|name| self.text(&format!("{name}.pem"))).collect::<io::Result<String>>()?;
        let certificate = self.text(&format!("{leaf}.pem"))?;
        let serial = serial(&certificate)?;
        Ok(Pair { certificate, chain, serial, key: self.directory.join(format!("{leaf}.key")) })
    }

    /// The key, encrypted as ACM hands it out: PKCS#8 under PBES2 with AES-256.
    pub(super) async fn sealed(&self, pair: &Pair, passphrase: &str) -> io::Result<String> {
        let mut command = Command::new("openssl");
        command.args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1", "-passout", "env:PASSPHRASE"]);
        command.env("PASSPHRASE", passphrase).arg("-in").arg(&pair.key);
        run(command).await
    }

    /// Each below the one before.
    async fn authorities(&self, names: &[&str]) -> io::Result<()> {
        let extensions =
            "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
        std::fs::write(self.directory.join("root.ext"), extensions)?;
        std::fs::write(self.directory.join("ca.ext"), format!("{extensions}authorityKeyIdentifier=keyid\n"))?;
        let mut above = "";
        for name in names {
            let extensions = if above.is_empty() { "root.ext" } else { "ca.ext" };
            self.make(name, name, above, CURVE, extensions, 3_650).await?;
            above = name;
        }
        Ok(())
    }

    /// A key and a certificate; below nothing, it signs itself.
    async fn make(
        &self,
        name: &str,
        subject: &str,
        above: &str,
        key: &str,
        extensions: &str,
        days: u32,
    ) -> io::Result<()> {
        self.openssl(&format!("genpkey {key} -out {name}.key")).await?;
        self.openssl(&format!("req -new -key {name}.key -subj /CN={subject} -out {name}.csr")).await?;
        let signer = match above {
            "" => format!("-key {name}.key"),
            above => format!("-CA {above}.pem -CAkey {above}.key"),
        };
        self.openssl(&format!("x509 -req -in {name}.csr {signer} -days {days} -extfile {extensions} -out {name}.pem"))
            .await
    }

    async fn openssl(&self, line: &str) -> io::Result<()> {
        let mut command = Command::new("openssl");
        command.args(line.split(' '));
        command.current_dir(&self.directory);
        run(command).await.map(drop)
    }

    fn text(&self, name: &str) -> io::Result<String> {
        std::fs::read_to_string(self.directory.join(name))
    }
}

const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
const CURVE_384: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-384";
const CURVE: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";

async fn run(mut command: Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output().await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(format!("openssl: {}", String::from_utf8_lossy(&output.stderr))))
}

fn serial(certificate: &str) -> io::Result<Vec<u8>> {
    let bad = || io::Error::other("openssl made something that is no certificate");
    let pem = Pem::iter_from_buffer(certificate.as_bytes()).next().and_then(Result::ok).ok_or_else(bad)?;
    let (_, parsed) = X509Certificate::from_der(&pem.contents).map_err(|_| bad())?;
    Ok(parsed.raw_serial().to_vec())
}
