"""Makes keys and leaves as others would: `mint_peers.py cryptography|openssl COUNT KIND`. One authority, then COUNT times a key, a leaf of a
week and both as PEM, with the extensions that Espalier's have. Nothing is checked afterwards: that is the difference which is measured."""

import datetime
import pathlib
import subprocess
import sys
import tempfile

NAME = "api.example.com"

# As Espalier and ACM call them, and as the OpenSSL command does.
GENPKEY = {
    "EC_prime256v1": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "EC_secp384r1": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "RSA_2048": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "RSA_3072": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
    "RSA_4096": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
    "Ed25519": ["-algorithm", "ED25519"],
}


def by_cryptography(count, kind):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    makers = {
        "EC_prime256v1": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EC_secp384r1": lambda: ec.generate_private_key(ec.SECP384R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
    }
    make = makers.get(kind) or (lambda: rsa.generate_private_key(65537, int(kind.removeprefix("RSA_"))))
    issuing = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Issuing")])
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing.public_key())
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"], False)
    for _ in range(count):
        key = make()
        leaf = (
            x509.CertificateBuilder(issuer, x509.Name([]), key.public_key(), x509.random_serial_number(), now,
                                    now + datetime.timedelta(days=7))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=True)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(above, critical=False)
            .sign(issuing, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        leaf.public_bytes(pem)


def by_openssl(count, kind):
    with tempfile.TemporaryDirectory() as place:
        run = lambda *words: subprocess.run(["openssl", *words], cwd=place, check=True, stderr=subprocess.DEVNULL)
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "issuing.key",
            "-out", "issuing.pem", "-subj", "/CN=Issuing")
        extensions = (f"subjectAltName=critical,DNS:{NAME}\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                      "extendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
        (pathlib.Path(place) / "extensions").write_text(extensions)
        for _ in range(count):
            run("genpkey", *GENPKEY[kind], "-out", "key.pem")
            run("req", "-new", "-key", "key.pem", "-subj", "/", "-out", "request.pem")
            run("x509", "-req", "-in", "request.pem", "-CA", "issuing.pem", "-CAkey", "issuing.key", "-days", "7", "-extfile",
                "extensions", "-out", "leaf.pem")


if __name__ == "__main__":
    who, count, kind = sys.argv[1:]
    {"cryptography": by_cryptography, "openssl": by_openssl}[who](int(count), kind)
