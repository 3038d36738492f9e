//! Profiles one after the other; what one edits, the next ones see.

use std::borrow::Cow;

use super::{
    c4, datatrove_pii, dclm, dolma, dolma_pii, fineweb, gopher, gopher_repetition, native, Bound, PhraseList,
    Reason, SeedRules, StageTrace, WordSet,
};
use crate::funnel::{Gauge, Size};
use crate::text::Views;

/// Quality profiles in order. An empty chain keeps everything.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    stages: Vec<Stage>,
    /// Name of the profile of each stage.
    names: Vec<String>,
}

#[derive(Debug, Clone)]
enum Stage {
    Seed(SeedRules),
    Table(&'static [Bound]),
    Rules(Vec<Bound>),
    Phrases(PhraseList),
    C4,
    DolmaPii,
    DatatrovePii,
    DclmLinks,
    DclmLines,
}

/// Memory of one thread: the views of the text at hand, and what single rules need.
#[derive(Debug, Default)]
pub struct Workspace {
    /// The views; [`Views::reset`] before each text.
    pub views: Views,
    /// How far the text has come.
    pub(crate) gauge: Gauge,
    words: WordSet,
    kept: c4::Kept,
    lower: String,
    finds: Vec<(usize, usize, &'static str)>,
    links: dclm::Cut,
    lines: dclm::Edited,
}

impl From<SeedRules> for Chain {
    fn from(rules: SeedRules) -> Self {
        let mut chain = Self::default();
        chain.push_seed(rules);
        chain
    }
}

impl Chain {
    /// Names of the profiles that [`Chain::push`] knows.
    pub const NAMES: [&'static str; 8] =
        ["gopher", "gopher-repetition", "c4", "fineweb", "datatrove-pii", "dolma", "dclm", "native"];

    /// Appends the profile of that name; false if there is none.
    pub fn push(&mut self, name: &str) -> bool {
        let stages = match name {
            "gopher" => vec![(name, Stage::Table(&gopher::RULES))],
            "gopher-repetition" => vec![(name, Stage::Table(&gopher_repetition::RULES))],
            "c4" => vec![(name, Stage::C4)],
            "fineweb" => vec![(name, Stage::Table(&fineweb::RULES))],
            "datatrove-pii" => vec![(name, Stage::DatatrovePii)],
            "dolma" => vec![(name, Stage::Table(&dolma::RULES)), ("dolma_pii", Stage::DolmaPii)],
            "dclm" => vec![
                ("dclm_links", Stage::DclmLinks),
                (name, Stage::Table(&dclm::RULES)),
                ("dclm_lines", Stage::DclmLines),
            ],
            "native" => vec![(name, Stage::Table(&native::RULES))],
            _ => return false,
        };
        for (name, stage) in stages {
            self.push_stage(name, stage);
        }
        true
    }

    /// Appends the rules of the `seed` profile.
    pub fn push_seed(&mut self, rules: SeedRules) {
        self.push_stage("seed", Stage::Seed(rules));
    }

    /// Appends the user's own rules.
    pub fn push_rules(&mut self, rules: Vec<Bound>) {
        if !rules.is_empty() {
            self.push_stage("rule", Stage::Rules(rules));
        }
    }

    /// Appends a list of phrases that no text may hold.
    pub fn push_phrases(&mut self, list: PhraseList) {
        self.names.push(list.name().to_owned());
        self.stages.push(Stage::Phrases(list));
    }

    fn push_stage(&mut self, name: &str, stage: Stage) {
        self.stages.push(stage);
        self.names.push(name.to_owned());
    }

    /// The profiles in order; the user's own rules are called `rule`, lists of phrases as they are named.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Most words of a text that is not rejected by their number alone, where that is asked first.
    pub(crate) fn most_words(&self) -> Option<usize> {
        match self.stages.first() {
            Some(Stage::Seed(rules)) => Some(rules.max_length),
            _ => None,
        }
    }

    /// The text as the profiles leave it, or the reason of the first that rejects it.
    pub fn judge<'t>(
        &self,
        mut text: Cow<'t, str>,
        work: &mut Workspace,
    ) -> Result<Cow<'t, str>, Reason<'_>> {
        for stage in &self.stages {
            let edited = stage.judge(&text, work)?;
            work.gauge.pass(edited.as_deref().map(Size::of));
            if let Some(edited) = edited {
                text = Cow::Owned(edited);
                work.views.reset();
            }
        }
        Ok(text)
    }

    /// What every rule measures of a text, asked or not: [`Chain::judge`], told step by step.
    pub fn trace(&self, text: &str, work: &mut Workspace) -> Vec<StageTrace> {
        let (mut text, mut is_asked) = (Cow::Borrowed(text), true);
        let mut traces = Vec::with_capacity(self.stages.len());
        for (stage, name) in self.stages.iter().zip(&self.names) {
            work.views.reset();
            let mut trace = stage.trace(&text, work);
            (trace.profile, trace.is_asked) = (name.clone(), is_asked);
            if is_asked {
                match stage.judge(&text, work) {
                    Ok(edited) => text = edited.map_or(text, Cow::Owned),
                    Err(reason) => is_asked = trace.decide(reason.name()),
                }
                trace.bytes_left = is_asked.then_some(text.len());
            }
            traces.push(trace);
        }
        traces
    }
}

impl Stage {
    /// The text as edited, `None` if it stays.
    fn judge(&self, text: &str, work: &mut Workspace) -> Result<Option<String>, Reason<'_>> {
        let Workspace { views, words, kept, lower, finds, links, lines, .. } = work;
        let broken = match self {
            Self::C4 => return c4::edit(text, views, kept),
            Self::DolmaPii => return dolma_pii::edit(text, finds),
            Self::DatatrovePii => return Ok(datatrove_pii::edit(text)),
            Self::DclmLinks => return dclm::remove_links(text, links),
            Self::DclmLines => return dclm::edit_lines(text, lines),
            Self::Seed(rules) => rules.first_broken(text, views.scan(text), words),
            Self::Table(rules) => first_broken(rules, text, views),
            Self::Rules(rules) => first_broken(rules, text, views),
            Self::Phrases(list) => list.broken(text, lower),
        };
        broken.map_or(Ok(None), Err)
    }

    /// The checks of the stage, without its verdict.
    fn trace(&self, text: &str, work: &mut Workspace) -> StageTrace {
        let Workspace { views, words, kept, lower, finds, .. } = work;
        let check = |rule: &Bound| rule.check(text, views);
        let checks = match self {
            Self::C4 => return c4::trace(text, views, kept),
            Self::DolmaPii => vec![dolma_pii::check(text, finds)],
            // They edit; why one rejects is told by its reason.
            Self::DatatrovePii | Self::DclmLinks | Self::DclmLines => Vec::new(),
            Self::Seed(rules) => rules.checks(text, views.scan(text), words),
            Self::Table(rules) => rules.iter().map(check).collect(),
            Self::Rules(rules) => rules.iter().map(check).collect(),
            Self::Phrases(list) => vec![list.check(text, lower)],
        };
        StageTrace { checks, ..StageTrace::default() }
    }
}

fn first_broken<'r>(rules: &'r [Bound], text: &str, views: &mut Views) -> Option<Reason<'r>> {
    rules.iter().find_map(|rule| rule.broken(text, views))
}
