# The project's verbs. `just` alone lists them.
_default:
    @just --list --unsorted

# The whole story on this machine: provision, mint, install, verify, rotate, tear down
lab *options:
    cargo lab {{options}}

# All tests
test *options:
    bash tests/run {{options}}

# What CI runs, or the named steps of it
ci *steps:
    bash .ci/run {{steps}}

# Formatting, lints and documentation, as CI wants them
lint:
    bash .ci/run format shells lint docs

# Licences, advisories, bans
deny:
    bash .ci/run deny

# Writes what is generated and checked in: the spec's schema, golden plans, the installer inside template.yaml, the page of roles
generate:
    EXPECTORATE=overwrite bash tests/run --test spec --test network --test rotation --test documents --test contracts

# The functions as users deploy them
build:
    cargo lambda build --locked --release --arm64

# Deploys the control plane into the account that the environment names
deploy:
    sam build && sam deploy --guided
