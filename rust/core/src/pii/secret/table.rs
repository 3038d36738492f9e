//! The kinds of secret, one a line: prefix, alphabet, length and least entropy.
//!
//! Forms are those that the services document or that their own keys show. Entropy is
//! Shannon's, in bits a character over the characters after the prefix: 3 of random
//! hexadecimal digits and 3.5 of random letters and digits are passed by nearly all
//! keys of these lengths and by few words.

/// Characters that a key is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Alphabet {
    /// 0-9, a-f, A-F.
    Hex,
    /// 0-9, A-Z.
    Upper,
    /// 0-9, a-z.
    Lower,
    /// 0-9, A-Z, a-z.
    Alnum,
    /// `Alnum` and `_`.
    Word,
    /// `Word` and `-`: base64 for URLs.
    Url,
    /// `Url` and `.`: such parts joined by dots.
    Dotted,
    /// `Alnum`, `+`, `/`, `=`: base64.
    Base64,
    /// `Base64`, `_`, `-`, `,`: base64 of either sort, or the path of a hook.
    Path,
}

/// How what follows the prefix is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A run of the alphabet, of `fewest` to `most` characters.
    Token { alphabet: Alphabet, fewest: usize, most: usize, min_entropy: f32 },
    /// Three parts of base64 joined by dots; the first is a JSON object (RFC 7519).
    Jwt,
    /// `-----BEGIN … PRIVATE KEY-----` to its end (RFC 7468).
    Pem,
    /// `user:password@` after `://` (RFC 3986, 3.2.1).
    UrlPassword,
    /// What is assigned to a name like this one.
    Assigned { min_entropy: f32 },
    /// What follows an authentication scheme (RFC 6750, 7617).
    Scheme,
}

/// A kind of secret.
pub(super) struct SecretKind {
    /// Whose; for the reader of this table and of its test.
    #[cfg_attr(not(test), allow(dead_code))]
    pub name: &'static str,
    /// What it begins with; found in any case, then compared exactly but for names.
    pub prefix: &'static str,
    /// How it goes on.
    pub form: Form,
}

const fn token(
    name: &'static str,
    prefix: &'static str,
    alphabet: Alphabet,
    fewest: usize,
    most: usize,
) -> SecretKind {
    let min_entropy = match alphabet {
        Alphabet::Hex | Alphabet::Upper | Alphabet::Lower => 2.8,
        _ => 3.2,
    };
    SecretKind { name, prefix, form: Form::Token { alphabet, fewest, most, min_entropy } }
}

const fn special(name: &'static str, prefix: &'static str, form: Form) -> SecretKind {
    SecretKind { name, prefix, form }
}

const fn assigned(prefix: &'static str, min_entropy: f32) -> SecretKind {
    SecretKind { name: "assigned", prefix, form: Form::Assigned { min_entropy } }
}

use Alphabet::{Alnum, Base64, Dotted, Hex, Lower, Path, Upper, Url, Word};

#[rustfmt::skip]
pub(super) static SECRETS: &[SecretKind] = &[
    token("1password service account", "ops_eyJ", Base64, 100, 1024),
    token("adobe client secret", "p8e-", Alnum, 32, 32),
    token("age secret key", "AGE-SECRET-KEY-1", Upper, 58, 58),
    token("airtable personal token", "pat", Dotted, 79, 79),
    token("alibaba access key", "LTAI", Alnum, 16, 24),
    token("anthropic api key", "sk-ant-", Url, 32, 128),
    token("artifactory api key", "AKCp", Alnum, 60, 73),
    token("artifactory reference token", "cmVmdGtuO", Alnum, 50, 64),
    token("atlassian api token", "ATATT3", Path, 60, 250),
    token("atlassian bitbucket token", "ATCTT3", Path, 60, 250),
    token("aws access key", "AKIA", Upper, 16, 16),
    token("aws temporary access key", "ASIA", Upper, 16, 16),
    token("aws bearer token", "ABIA", Upper, 16, 16),
    token("aws context credential", "ACCA", Upper, 16, 16),
    token("aws bedrock api key", "ABSKQmVkcm9ja0FQSUtleS", Base64, 90, 300),
    token("azure storage key", "AccountKey=", Base64, 86, 88),
    token("azure shared access key", "SharedAccessKey=", Base64, 43, 44),
    token("bitbucket app password", "ATBB", Alnum, 32, 32),
    token("buildkite token", "bkua_", Hex, 40, 40),
    token("cerebras api key", "csk-", Lower, 48, 48),
    token("circleci personal token", "CCIPAT_", Word, 63, 63),
    token("circleci project token", "CCIPRJ_", Word, 63, 63),
    token("clojars token", "CLOJARS_", Alnum, 60, 60),
    token("cloudflare origin key", "v1.0-", Url, 140, 180),
    token("contentful token", "CFPAT-", Url, 43, 43),
    token("crates.io token", "cio", Alnum, 32, 32),
    token("databricks token", "dapi", Hex, 32, 32),
    token("digitalocean token", "dop_v1_", Hex, 64, 64),
    token("digitalocean oauth token", "doo_v1_", Hex, 64, 64),
    token("digitalocean refresh token", "dor_v1_", Hex, 64, 64),
    token("discord webhook", "discord.com/api/webhooks/", Path, 60, 120),
    token("docker hub token", "dckr_pat_", Url, 24, 36),
    token("docker hub organisation token", "dckr_oat_", Url, 24, 40),
    token("doppler token", "dp.pt.", Alnum, 40, 44),
    token("doppler service token", "dp.st.", Dotted, 40, 80),
    token("doppler cli token", "dp.ct.", Alnum, 40, 44),
    token("duffel token", "duffel_live_", Url, 43, 43),
    token("duffel test token", "duffel_test_", Url, 43, 43),
    token("dynatrace token", "dt0c01.", Dotted, 80, 100),
    token("easypost api key", "EZAK", Alnum, 54, 54),
    token("easypost test key", "EZTK", Alnum, 54, 54),
    token("facebook access token", "EAACEdEose0cBA", Alnum, 20, 300),
    token("firebase messaging key", ":APA91b", Url, 134, 134),
    token("figma token", "figd_", Url, 38, 48),
    token("flutterwave secret key", "FLWSECK-", Url, 32, 48),
    token("flutterwave test key", "FLWSECK_TEST-", Url, 12, 48),
    token("fly.io token", "FlyV1 fm", Path, 100, 1024),
    token("frame.io token", "fio-u-", Url, 64, 64),
    token("github personal token", "ghp_", Alnum, 36, 36),
    token("github oauth token", "gho_", Alnum, 36, 36),
    token("github user token", "ghu_", Alnum, 36, 36),
    token("github server token", "ghs_", Alnum, 36, 36),
    token("github refresh token", "ghr_", Alnum, 36, 76),
    token("github fine-grained token", "github_pat_", Word, 60, 90),
    token("gitlab personal token", "glpat-", Dotted, 20, 64),
    token("gitlab deploy token", "gldt-", Url, 20, 64),
    token("gitlab runner token", "glrt-", Dotted, 20, 64),
    token("gitlab trigger token", "glptt-", Hex, 40, 40),
    token("gitlab job token", "glcbt-", Url, 20, 64),
    token("gitlab feed token", "glft-", Url, 20, 64),
    token("gitlab agent token", "glagent-", Url, 40, 64),
    token("gitlab oauth secret", "gloas-", Hex, 64, 64),
    token("gitlab mail token", "glimt-", Url, 20, 64),
    token("gitlab scim token", "glsoat-", Url, 20, 64),
    token("gitlab feature flag token", "glffct-", Url, 20, 64),
    token("google api key", "AIza", Url, 35, 35),
    token("google client secret", "GOCSPX-", Url, 28, 28),
    token("google access token", "ya29.", Url, 40, 512),
    token("grafana service account", "glsa_", Word, 41, 41),
    token("grafana cloud token", "glc_", Base64, 32, 400),
    token("grafana api key", "eyJrIjoi", Base64, 60, 400),
    token("groq api key", "gsk_", Alnum, 52, 52),
    token("heroku api key", "HRKU-", Url, 36, 64),
    token("hubspot token, america", "pat-na1-", Url, 36, 36),
    token("hubspot token, europe", "pat-eu1-", Url, 36, 36),
    token("hugging face token", "hf_", Alnum, 34, 40),
    token("hugging face organisation", "api_org_", Alnum, 34, 34),
    token("infracost key", "ico-", Alnum, 32, 32),
    token("intra42 secret", "s-s4t2ud-", Hex, 64, 64),
    token("langfuse secret key", "sk-lf-", Url, 36, 36),
    token("langsmith personal key", "lsv2_pt_", Word, 43, 43),
    token("langsmith service key", "lsv2_sk_", Word, 43, 43),
    token("linear api key", "lin_api_", Alnum, 40, 40),
    token("lob key", "live_", Hex, 35, 35),
    token("mailgun key", "key-", Lower, 32, 32),
    token("mapbox secret token", "sk.eyJ", Dotted, 60, 200),
    token("neon api key", "napi_", Alnum, 60, 70),
    token("netlify token", "nfp_", Alnum, 36, 36),
    token("new relic user key", "NRAK-", Upper, 27, 27),
    token("new relic insert key", "NRII-", Url, 32, 32),
    token("new relic browser key", "NRJS-", Hex, 19, 19),
    token("notion token", "ntn_", Alnum, 40, 50),
    token("notion integration secret", "secret_", Alnum, 43, 43),
    token("npm token", "npm_", Alnum, 36, 36),
    token("nvidia api key", "nvapi-", Url, 60, 70),
    token("openai project key", "sk-proj-", Url, 40, 200),
    token("openai service account", "sk-svcacct-", Url, 40, 200),
    token("openai admin key", "sk-admin-", Url, 40, 200),
    token("openai api key", "sk-", Alnum, 32, 64),
    token("openrouter key", "sk-or-v1-", Hex, 64, 64),
    token("openshift token", "sha256~", Url, 43, 43),
    token("perplexity api key", "pplx-", Alnum, 40, 56),
    token("pinecone api key", "pcsk_", Word, 60, 80),
    token("plaid access token", "access-production-", Url, 36, 36),
    token("plaid test token", "access-sandbox-", Url, 36, 36),
    token("planetscale token", "pscale_tkn_", Dotted, 32, 64),
    token("planetscale oauth token", "pscale_oauth_", Dotted, 32, 64),
    token("planetscale password", "pscale_pw_", Dotted, 32, 64),
    token("postman api key", "PMAK-", Url, 59, 59),
    token("posthog personal key", "phx_", Alnum, 43, 47),
    token("prefect api key", "pnu_", Alnum, 36, 36),
    token("pulumi token", "pul-", Hex, 40, 40),
    token("pypi token", "pypi-AgE", Url, 50, 300),
    token("readme api key", "rdme_", Alnum, 70, 70),
    token("render api key", "rnd_", Alnum, 28, 36),
    token("replicate token", "r8_", Alnum, 37, 40),
    token("rubygems key", "rubygems_", Hex, 48, 48),
    token("scalingo token", "tk-us-", Url, 48, 48),
    token("sendgrid key", "SG.", Dotted, 60, 70),
    token("sendinblue key", "xkeysib-", Url, 81, 81),
    token("sendinblue smtp key", "xsmtpsib-", Url, 81, 81),
    token("sentry user token", "sntryu_", Hex, 64, 64),
    token("sentry organisation token", "sntrys_", Path, 80, 400),
    token("shippo token", "shippo_live_", Hex, 40, 40),
    token("shopify access token", "shpat_", Hex, 32, 32),
    token("shopify custom app token", "shpca_", Hex, 32, 32),
    token("shopify private app token", "shppa_", Hex, 32, 32),
    token("shopify shared secret", "shpss_", Hex, 32, 32),
    token("slack bot token", "xoxb-", Url, 24, 90),
    token("slack user token", "xoxp-", Url, 24, 120),
    token("slack app token", "xapp-", Url, 40, 140),
    token("slack workspace token", "xoxa-", Url, 24, 120),
    token("slack refresh token", "xoxr-", Url, 24, 200),
    token("slack session token", "xoxs-", Url, 24, 120),
    token("slack config token", "xoxe", Dotted, 40, 250),
    token("slack webhook", "hooks.slack.com/services/", Path, 40, 60),
    token("sonarqube token", "sqp_", Hex, 40, 40),
    token("sonarqube user token", "squ_", Hex, 40, 40),
    token("sonarqube analysis token", "sqa_", Hex, 40, 40),
    token("square access token", "sq0atp-", Url, 22, 22),
    token("square secret", "sq0csp-", Url, 43, 43),
    token("stripe secret key", "sk_live_", Alnum, 16, 128),
    token("stripe test key", "sk_test_", Alnum, 16, 128),
    token("stripe restricted key", "rk_live_", Alnum, 16, 128),
    token("stripe restricted test key", "rk_test_", Alnum, 16, 128),
    token("stripe webhook secret", "whsec_", Base64, 32, 64),
    token("supabase token", "sbp_", Hex, 40, 40),
    token("supabase secret key", "sb_secret_", Url, 30, 50),
    token("tailscale key", "tskey-", Url, 24, 80),
    token("telegram bot token", ":AA", Url, 33, 33),
    token("tencent secret id", "AKID", Alnum, 32, 32),
    token("terraform cloud token", ".atlasv1.", Url, 60, 70),
    token("together api key", "tgp_v1_", Url, 43, 43),
    token("typeform token", "tfp_", Dotted, 44, 64),
    token("vault service token", "hvs.", Url, 24, 200),
    token("vault batch token", "hvb.", Url, 100, 300),
    token("xai api key", "xai-", Alnum, 70, 90),
    token("yandex api key", "AQVN", Url, 35, 38),
    special("json web token", "eyJ", Form::Jwt),
    special("private key", "-----BEGIN ", Form::Pem),
    special("password in a url", "://", Form::UrlPassword),
    special("bearer token", "Bearer ", Form::Scheme),
    special("basic credentials", "Basic ", Form::Scheme),
    assigned("password", 2.4), assigned("passwd", 2.4), assigned("passphrase", 2.4), assigned("pwd", 2.4),
    assigned("secret", 3.0), assigned("api_key", 3.0), assigned("api-key", 3.0), assigned("apikey", 3.0),
    assigned("api key", 3.0), assigned("access_key", 3.0), assigned("accesskey", 3.0), assigned("auth_key", 3.0),
    assigned("token", 3.0), assigned("private_key", 3.0), 
    assigned("encryption_key", 3.0), assigned("signing_key", 3.0), assigned("subscription-key", 3.0),
    assigned("contraseña", 2.4), assigned("passwort", 2.4), assigned("mot de passe", 2.4),
];
