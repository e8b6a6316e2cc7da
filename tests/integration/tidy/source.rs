//! One source file as tokens, and the facts that the rules of the house ask of it.
//!
//! Tokens, not text: comments and strings cannot deceive, and paths inside macros count. Code under `#[cfg(test)]` is left
//! out of `paths`: it may use whatever shows that the rest is right.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A file of the tree.
pub struct Source {
    /// From the root of the repository: `src/domain/id.rs`.
    pub file: String,
    pub text: String,
    /// `["domain", "id"]`; empty for `lib.rs`.
    pub module: Vec<String>,
    /// Paths into this crate, `crate` left out, `self`, `super`, imports and child modules resolved.
    pub paths: Vec<Path>,
    /// Paths that begin with a name of no module here: other crates.
    pub foreign: Vec<Path>,
    /// The text inside `#[…]`, and whether a `mod` item follows.
    pub attributes: Vec<Attribute>,
    /// Names of macros that are called.
    pub macros: Vec<Path>,
    /// Modules declared under `#[cfg(test)]`: their files are tests.
    pub test_modules: Vec<Vec<String>>,
    /// Whether `async` or `await` stands anywhere.
    pub is_async: bool,
    in_test: bool,
}

/// Where something is named.
pub struct Path {
    pub line: usize,
    pub segments: Vec<String>,
}

pub struct Attribute {
    pub line: usize,
    pub tokens: TokenStream,
    pub on_module: bool,
}

/// What plain names stand for, by `use` and `mod`; whether that is a path into this crate.
type Names = BTreeMap<String, (bool, Vec<String>)>;

impl Source {
    pub fn parse(file: &str, text: &str) -> Self {
        let tokens: TokenStream = text.parse().unwrap_or_else(|e| panic!("`{file}`: {e}"));
        let mut source = Self {
            file: file.to_owned(),
            text: text.to_owned(),
            module: module_of(file),
            paths: Vec::new(),
            foreign: Vec::new(),
            attributes: Vec::new(),
            macros: Vec::new(),
            test_modules: Vec::new(),
            is_async: false,
            in_test: false,
        };
        let module = source.module.clone();
        source.items(&flat(tokens), &module, &mut Names::new());
        source
    }

    fn items(&mut self, tokens: &[TokenTree], module: &[String], names: &mut Names) {
        let mut at = 0;
        while at < tokens.len() {
            if let Some((attribute, after)) = attribute(tokens, at) {
                let begins_test = !self.in_test && is_cfg_test(&attribute.tokens);
                self.attributes.push(attribute);
                at = after;
                if begins_test {
                    let end = item_end(tokens, at);
                    self.in_test = true;
                    self.items(&tokens[at..end], module, &mut names.clone());
                    self.in_test = false;
                    at = end;
                }
                continue;
            }
            at = match &tokens[at] {
                TokenTree::Ident(ident) => self.word(&ident.to_string(), tokens, at, module, names),
                TokenTree::Group(group) => {
                    self.items(&flat(group.stream()), module, names);
                    at + 1
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => at + 1,
            };
        }
    }

    /// What begins with a word; returns the position after it.
    fn word(
        &mut self,
        word: &str,
        tokens: &[TokenTree],
        at: usize,
        module: &[String],
        names: &mut Names,
    ) -> usize {
        if word == "mod" {
            return self.module(tokens, at, module, names);
        }
        self.is_async |= !self.in_test && (word == "async" || word == "await");
        if is_punct(tokens, at + 1, '!') && !is_punct(tokens, at + 2, '=') {
            self.macros.push(Path { line: line(&tokens[at]), segments: vec![word.to_owned()] });
        }
        if is_colons(tokens, at + 1) && !(at >= 2 && is_colons(tokens, at - 2)) {
            return self.path(word, tokens, at, module, names);
        }
        at + 1
    }

    /// `mod name;` or `mod name { … }`.
    fn module(
        &mut self,
        tokens: &[TokenTree],
        at: usize,
        module: &[String],
        names: &mut Names,
    ) -> usize {
        let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else { return at + 1 };
        let inner = joined(module, &name.to_string());
        if let Some(TokenTree::Group(body)) = tokens.get(at + 2) {
            self.items(&flat(body.stream()), &inner, &mut Names::new());
        } else if self.in_test {
            self.test_modules.push(inner.clone());
        }
        names.insert(name.to_string(), (true, inner));
        at + 3
    }

    /// A path with at least one `::`, perhaps a whole use tree.
    fn path(
        &mut self,
        first: &str,
        tokens: &[TokenTree],
        at: usize,
        module: &[String],
        names: &mut Names,
    ) -> usize {
        let mut rest = at + 3;
        let (ours, base) = match first {
            "crate" => (true, Vec::new()),
            "leasehold" if self.file == "src/main.rs" => (true, Vec::new()),
            "self" => (true, module.to_vec()),
            "super" => {
                let mut base = module[..module.len().saturating_sub(1)].to_vec();
                while matches!(tokens.get(rest), Some(TokenTree::Ident(word)) if *word == "super") {
                    base.pop();
                    rest += 3;
                }
                (true, base)
            }
            name => names.get(name).cloned().unwrap_or_else(|| (false, vec![name.to_owned()])),
        };
        let is_import = at > 0 && matches!(&tokens[at - 1], TokenTree::Ident(w) if *w == "use");
        let mut found = Vec::new();
        let after = tree(tokens, rest, &base, &mut found);
        for (path, name) in found {
            if is_import {
                names.insert(name, (ours, path.segments.clone()));
            }
            if !self.in_test {
                if ours { &mut self.paths } else { &mut self.foreign }.push(path);
            }
        }
        after
    }
}

/// Past the item or statement that begins here.
fn item_end(tokens: &[TokenTree], begin: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(body) => body.delimiter() == Delimiter::Brace,
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    tokens[begin..].iter().position(ends).map_or(tokens.len(), |length| begin + length + 1)
}

/// Collects the paths of a use tree, each with the name that it binds; returns the position after it.
fn tree(
    tokens: &[TokenTree],
    mut at: usize,
    base: &[String],
    found: &mut Vec<(Path, String)>,
) -> usize {
    let mut segments = base.to_vec();
    let here = tokens.get(at.min(tokens.len() - 1)).map_or(0, line);
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => {
                if *ident != "self" {
                    segments.push(ident.to_string());
                }
                at += 1;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                branches(group, &segments, found);
                return at + 1;
            }
            _ => break,
        }
        if !is_colons(tokens, at) {
            break;
        }
        at += 2;
    }
    let mut name = segments.last().cloned().unwrap_or_default();
    if let (Some(TokenTree::Ident(word)), Some(alias)) = (tokens.get(at), tokens.get(at + 1))
        && *word == "as"
    {
        name = alias.to_string();
    }
    found.push((Path { line: here, segments }, name));
    at
}

fn branches(group: &Group, base: &[String], found: &mut Vec<(Path, String)>) {
    let tokens = flat(group.stream());
    let is_comma = |t: &TokenTree| matches!(t, TokenTree::Punct(p) if p.as_char() == ',');
    for branch in tokens.split(is_comma).filter(|branch| !branch.is_empty()) {
        tree(branch, 0, base, found);
    }
}

fn attribute(tokens: &[TokenTree], at: usize) -> Option<(Attribute, usize)> {
    if !is_punct(tokens, at, '#') {
        return None;
    }
    let bracket = if is_punct(tokens, at + 1, '!') { at + 2 } else { at + 1 };
    let Some(TokenTree::Group(group)) = tokens.get(bracket) else { return None };
    let mut next = bracket + 1;
    while let Some(TokenTree::Ident(word)) = tokens.get(next)
        && *word == "pub"
    {
        next += 1;
        if matches!(tokens.get(next), Some(TokenTree::Group(_))) {
            next += 1;
        }
    }
    let on_module = matches!(tokens.get(next), Some(TokenTree::Ident(word)) if *word == "mod");
    let attribute = Attribute { line: line(&tokens[at]), tokens: group.stream(), on_module };
    Some((attribute, bracket + 1))
}

fn is_cfg_test(attribute: &TokenStream) -> bool {
    let text: String = attribute.to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

fn module_of(file: &str) -> Vec<String> {
    let path = file.strip_prefix("src/").unwrap_or(file).trim_end_matches(".rs");
    let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
    module.pop_if(|last| last == "mod" || last == "lib");
    module
}

fn flat(tokens: TokenStream) -> Vec<TokenTree> {
    tokens.into_iter().collect()
}

fn joined(module: &[String], name: &str) -> Vec<String> {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

fn is_punct(tokens: &[TokenTree], at: usize, wanted: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens, at, ':') && is_punct(tokens, at + 1, ':')
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}
