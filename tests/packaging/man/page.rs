//! Writes manual pages in mdoc.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::header::{Function, Header};

/// Date of the last change to the pages' content.
pub const DATE: &str = "November 24, 2026";

/// The page of one function.
pub fn function(header: &Header, function: &Function) -> String {
    let Function { name, result, parameters, doc } = function;
    let (summary, rest) = summary(&doc[0]);
    let mut page = front(name, &summary);
    let _ = writeln!(page, ".Sh SYNOPSIS\n.In pi0rt.h\n.Ft {result}");
    if parameters == &["void"] {
        let _ = writeln!(page, ".Fn {name} void");
    } else {
        let _ = writeln!(page, ".Fo {name}");
        parameters.iter().for_each(|parameter| {
            let _ = writeln!(page, ".Fa \"{parameter}\"");
        });
        page += ".Fc\n";
    }

    let text = Text { header, own: name };
    let kind = |paragraph: &str| {
        let starts = [("Real-time safe", 1), ("Not real-time safe", 1), ("Returns ", 2), ("Requires:", 3)];
        starts.iter().find(|(start, _)| paragraph.starts_with(start)).map_or(0, |(_, kind)| *kind)
    };
    let of = |wanted| doc.iter().filter(move |paragraph| kind(paragraph) == wanted);
    page += ".Sh DESCRIPTION\n";
    let _ = writeln!(page, ".Fn {name}");
    page += &text.run(&lower(&format!("{summary}. {rest}")));
    for paragraph in of(0).skip(1) {
        let _ = write!(page, ".Pp\n{}", text.run(paragraph));
    }
    for shown in types(header, parameters) {
        let _ = write!(page, ".Bd -literal\n{}\n.Ed\n", literal(shown));
    }
    for (kind, title) in [(2, "RETURN VALUES"), (1, "REAL TIME AND THREADS"), (3, "REQUIREMENTS")] {
        let paragraphs: Vec<_> =
            of(kind).map(|paragraph| paragraph.trim_start_matches("Requires: ")).collect();
        if !paragraphs.is_empty() {
            let _ = write!(page, ".Sh {title}\n{}", text.run(&paragraphs.join(" ")));
        }
    }
    let mentioned = |other: &&Function| {
        other.name != *name
            && doc.iter().any(|text| text.split(|c| !is_word(c)).any(|word| word == other.name))
    };
    let mut others: BTreeSet<_> =
        header.functions.iter().filter(mentioned).map(|other| other.name.as_str()).collect();
    others.insert("pi0rt");
    page + &see_also(&others)
}

/// The overview page of the library.
pub fn overview(header: &Header) -> String {
    let (first, about) = header.about.split_first().expect("a first line");
    let mut page = front("pi0rt", first.trim_start_matches("pi0rt: ").trim_end_matches('.'));
    page += ".Sh SYNOPSIS\n.In pi0rt.h\n.Pp\ncc ... $(pkg-config --cflags --libs pi0rt)\n.Sh DESCRIPTION\n";
    let text = Text { header, own: "pi0rt" };
    let mut paragraph: Vec<&str> = Vec::new();
    let mut display = false;
    for line in about.iter().map(String::as_str).chain([""]) {
        let code = line.starts_with("  ");
        if display && !code {
            page += ".Ed\n";
            display = false;
        }
        if code {
            if !display {
                page += ".Bd -literal -offset indent\n";
                display = true;
            }
            page += &(literal(line.strip_prefix("  ").unwrap_or(line)) + "\n");
        } else if !line.is_empty() {
            paragraph.push(line);
        } else if !paragraph.is_empty() {
            let words = std::mem::take(&mut paragraph).join(" ");
            if !words.starts_with("Link with") {
                let _ = write!(page, ".Pp\n{}", text.run(&words));
            }
        }
    }
    page += ".Pp\nThe functions:\n.Bl -tag -width Ds\n";
    for function in &header.functions {
        let (first, _) = summary(&function.doc[0]);
        let _ = write!(page, ".It Xr {} 3\n{}", function.name, text.run(&format!("{first}.")));
    }
    page += ".El\n.Sh RETURN VALUES\nA\n.Vt pi0rt_status\nis one of\n.Bl -tag -width Ds\n";
    for (name, comment) in header.statuses() {
        let _ = write!(page, ".It Dv PI0RT_STATUS_{name}\n{}", text.run(&comment));
    }
    page += ".El\n.Sh ENVIRONMENT\n.Bl -tag -width Ds\n.It Ev PI0RT_SOCKET\n";
    page += "The daemon's socket, for sessions whose options don't name one.\n.El\n";
    page += ".Sh FILES\n.Bl -tag -width Ds\n.It Pa /run/pi0rt/pi0rt.sock\n";
    page += "The socket when nothing names another.\n.El\n";
    page += ".Sh EXAMPLES\nOne observation, and the action for each moment after it:\n.Bd -literal\n";
    page += &(literal(EXAMPLE) + "\n.Ed\n");
    page + &see_also(&header.functions.iter().map(|function| function.name.as_str()).collect())
}

const EXAMPLE: &str = r#"pi0rt_client *client;
pi0rt_observation observation = {.struct_size = sizeof observation};
pi0rt_completion completion = {.struct_size = sizeof completion};
uint64_t ticket;

pi0rt_client_open(NULL, &client);
pi0rt_client_set_prompt(client, "pick up the red block", NULL);
pi0rt_observation_acquire(client, &observation);
/* write observation.state and observation.frames[i].data */
pi0rt_submit(client, &observation, &ticket);
pi0rt_wait(client, ticket, 1000000000, &completion);
pi0rt_action_at(client, pi0rt_now_ns(), action, action_dim, NULL);
pi0rt_client_close(client);"#;

fn front(name: &str, summary: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".\\\" Generated from include/pi0rt.h by tests/packaging/man.rs.\n.Dd {DATE}\n.Dt {} 3\n.Os pi0rt {version}\n\
         .Sh NAME\n.Nm {name}\n.Nd {}\n.Sh LIBRARY\nPI0 runtime, client (libpi0rt, \\-lpi0rt)\n",
        name.to_uppercase(),
        lower(summary)
    )
}

fn see_also(names: &BTreeSet<&str>) -> String {
    let list: Vec<_> = names.iter().map(|name| format!(".Xr {name} 3")).collect();
    format!(".Sh SEE ALSO\n{}\n", list.join(" ,\n"))
}

/// The first sentence without its full stop, and the rest.
fn summary(paragraph: &str) -> (String, String) {
    let (first, rest) = paragraph.split_once(". ").unwrap_or((paragraph.trim_end_matches('.'), ""));
    (first.into(), rest.into())
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The definitions of the types in a function's parameters.
fn types<'a>(header: &'a Header, parameters: &[String]) -> Vec<&'a str> {
    let mut shown: Vec<&str> = Vec::new();
    let mut texts = vec![parameters.join(" ")];
    while let Some(text) = texts.pop() {
        // A field of another struct is only mentioned.
        for word in text.split(|c| !is_word(c) && c != '.') {
            let found = header.types.iter().find(|of| of.name == word && word != "pi0rt_status");
            if let Some(of) = found.filter(|of| !shown.contains(&of.text.as_str())) {
                shown.push(&of.text);
                texts.push(of.text.clone());
            }
        }
    }
    shown
}

/// Text marked as code.
pub fn literal(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace("/**", "/*");
    text.lines()
        .map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.into() })
        .collect::<Vec<String>>()
        .join("\n")
}

/// Running text with names marked up.
struct Text<'a> {
    header: &'a Header,
    own: &'a str,
}

impl Text<'_> {
    fn run(&self, text: &str) -> String {
        let mut lines: Vec<String> = Vec::new();
        let mut plain: Vec<&str> = Vec::new();
        let flush = |lines: &mut Vec<String>, plain: &mut Vec<&str>| {
            if !plain.is_empty() {
                wrap(&plain.join(" "), lines);
                plain.clear();
            }
        };
        for token in text.split_whitespace() {
            let open = if token.starts_with('(') { "Po " } else { "" };
            let inner = token.trim_start_matches('(').trim_end_matches(['.', ',', ';', ':', ')']);
            let after: Vec<_> =
                token[token.rfind(inner).unwrap_or(0) + inner.len()..].chars().map(String::from).collect();
            match self.macro_of(inner) {
                Some(marked) if open.is_empty() => {
                    flush(&mut lines, &mut plain);
                    let after =
                        if after.is_empty() { String::new() } else { format!(" {}", after.join(" ")) };
                    lines.push(format!(".{marked}{after}"));
                }
                _ => plain.push(token),
            }
            // A line ends after each sentence.
            if token.ends_with('.') {
                flush(&mut lines, &mut plain);
            }
        }
        flush(&mut lines, &mut plain);
        lines.join("\n") + "\n"
    }

    fn macro_of(&self, word: &str) -> Option<String> {
        if word == self.own {
            return Some(format!("Fn {word}"));
        }
        if self.header.functions.iter().any(|function| function.name == word) {
            return Some(format!("Xr {word} 3"));
        }
        if self.header.statuses().any(|(name, _)| name == word) {
            return Some(format!("Dv PI0RT_STATUS_{word}"));
        }
        if word == "NULL" || word.starts_with("PI0RT_") && word.chars().all(is_word) {
            return Some(format!("Dv {word}"));
        }
        if let Some(variable) = word.strip_prefix('$').filter(|name| name.chars().all(is_word)) {
            return Some(format!("Ev {variable}"));
        }
        if word == "pi0rt_client" || self.header.types.iter().any(|of| of.name == word) {
            return Some(format!("Vt {word}"));
        }
        (word.contains("->") || word.starts_with('*')).then(|| format!("Fa {word}"))
    }
}

/// Breaks a long line.
pub fn wrap(text: &str, lines: &mut Vec<String>) {
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + word.len() > 78 {
            lines.push(std::mem::take(&mut line));
        }
        line = if line.is_empty() { word.into() } else { format!("{line} {word}") };
    }
    lines.push(line);
    for line in lines {
        // Otherwise it would be a request.
        if line.starts_with('\'') {
            line.insert_str(0, "\\&");
        }
    }
}
