//! Profiles one after the other; what one edits, the next ones see.

use std::borrow::Cow;

use super::{
    c4, dclm, dolma, dolma_pii, fineweb, gopher, gopher_repetition, native, Bound, Reason, SeedRules, WordSet,
};
use crate::text::Views;

/// Quality profiles in order. An empty chain keeps everything.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    stages: Vec<Stage>,
}

#[derive(Debug, Clone)]
enum Stage {
    Seed(SeedRules),
    Table(&'static [Bound]),
    Rules(Vec<Bound>),
    C4,
    DolmaPii,
    DclmLinks,
    DclmLines,
}

/// Memory of one thread: the views of the text at hand, and what single rules need.
#[derive(Debug, Default)]
pub struct Workspace {
    /// The views; [`Views::reset`] before each text.
    pub views: Views,
    words: WordSet,
    kept: c4::Kept,
    finds: Vec<(usize, usize, &'static str)>,
    links: dclm::Cut,
    lines: dclm::Edited,
}

impl From<SeedRules> for Chain {
    fn from(rules: SeedRules) -> Self {
        Self { stages: vec![Stage::Seed(rules)] }
    }
}

impl Chain {
    /// Names of the profiles that [`Chain::push`] knows.
    pub const NAMES: [&'static str; 7] =
        ["gopher", "gopher-repetition", "c4", "fineweb", "dolma", "dclm", "native"];

    /// Appends the profile of that name; false if there is none.
    pub fn push(&mut self, name: &str) -> bool {
        self.stages.extend(match name {
            "gopher" => vec![Stage::Table(&gopher::RULES)],
            "gopher-repetition" => vec![Stage::Table(&gopher_repetition::RULES)],
            "c4" => vec![Stage::C4],
            "fineweb" => vec![Stage::Table(&fineweb::RULES)],
            "dolma" => vec![Stage::Table(&dolma::RULES), Stage::DolmaPii],
            "dclm" => vec![Stage::DclmLinks, Stage::Table(&dclm::RULES), Stage::DclmLines],
            "native" => vec![Stage::Table(&native::RULES)],
            _ => return false,
        });
        true
    }

    /// Appends the rules of the `seed` profile.
    pub fn push_seed(&mut self, rules: SeedRules) {
        self.stages.push(Stage::Seed(rules));
    }

    /// Appends the user's own rules.
    pub fn push_rules(&mut self, rules: Vec<Bound>) {
        self.stages.push(Stage::Rules(rules));
    }

    /// The text as the profiles leave it, or the reason of the first that rejects it.
    pub fn judge<'t>(
        &self,
        mut text: Cow<'t, str>,
        work: &mut Workspace,
    ) -> Result<Cow<'t, str>, Reason<'_>> {
        for stage in &self.stages {
            if let Some(edited) = stage.judge(&text, work)? {
                text = Cow::Owned(edited);
                work.views.reset();
            }
        }
        Ok(text)
    }
}

impl Stage {
    /// The text as edited, `None` if it stays.
    fn judge(&self, text: &str, work: &mut Workspace) -> Result<Option<String>, Reason<'_>> {
        let Workspace { views, words, kept, finds, links, lines } = work;
        let broken = match self {
            Self::C4 => return c4::edit(text, views, kept),
            Self::DolmaPii => return dolma_pii::edit(text, finds),
            Self::DclmLinks => return dclm::remove_links(text, links),
            Self::DclmLines => return dclm::edit_lines(text, lines),
            Self::Seed(rules) => rules.first_broken(text, views.scan(text), words),
            Self::Table(rules) => first_broken(rules, text, views),
            Self::Rules(rules) => first_broken(rules, text, views),
        };
        broken.map_or(Ok(None), Err)
    }
}

fn first_broken<'r>(rules: &'r [Bound], text: &str, views: &mut Views) -> Option<Reason<'r>> {
    rules.iter().find_map(|rule| rule.broken(text, views))
}
