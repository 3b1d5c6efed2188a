//! Access rules of application credentials: which requests they are good for.
//! <https://docs.openstack.org/keystone/latest/user/application_credentials.html#access-rules>

use super::token::AccessRule;

/// Whether one of the rules allows a request to the service of a type.
pub fn allow(rules: &[AccessRule], service_type: &str, method: &str, path: &str) -> bool {
    rules.iter().any(|rule| {
        rule.service == service_type && rule.method == method && matches(&rule.path, path)
    })
}

/// Whether a path fits a pattern, in which `**` stands for anything, `*` and `{name}`
/// for one part or a piece of it.
///
/// Whoever may make an application credential writes these: each part of the pattern
/// is looked at once for each place in the path, so that none of them takes long.
fn matches(pattern: &str, path: &str) -> bool {
    let path: Vec<char> = path.chars().collect();
    // Places in the path up to which the pattern so far can reach.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for part in parts(pattern) {
        let mut next = vec![false; path.len() + 1];
        match part {
            Part::Anything => {
                let first = reached.iter().position(|is| *is).unwrap_or(next.len());
                next.iter_mut().skip(first).for_each(|is| *is = true);
            }
            Part::Piece => {
                // At least one character, and no slash.
                for at in 0..path.len() {
                    next[at + 1] = path[at] != '/' && (reached[at] || next[at]);
                }
            }
            Part::Literal(wanted) => {
                for at in 0..path.len() {
                    next[at + 1] = reached[at] && path[at] == wanted;
                }
            }
        }
        reached = next;
    }
    reached[path.len()]
}

enum Part {
    Anything,
    Piece,
    Literal(char),
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let tag = rest.strip_prefix('{').and_then(|tag| tag.split_once('}'));
        let (part, after) = match (c, tag) {
            (_, Some((_, after))) => (Part::Piece, after),
            ('*', _) => match rest.strip_prefix("**") {
                Some(after) => (Part::Anything, after),
                None => (Part::Piece, &rest[1..]),
            },
            (c, _) => (Part::Literal(c), &rest[c.len_utf8()..]),
        };
        parts.push(part);
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_the_middleware_has_it() {
        let cases = [
            ("/v2/summary", "/v2/summary", true),
            ("/v2/summary", "/v2/summary/x", false),
            ("/v2/*", "/v2/summary", true),
            ("/v2/*", "/v2/task/reprocesses", false),
            ("/v2/**", "/v2/task/reprocesses", true),
            ("/v2/rating/modules/{id}", "/v2/rating/modules/hashmap", true),
            ("/v2/rating/modules/{id}", "/v2/rating/modules/", false),
            ("/**/modules/*", "/v1/rating/modules/noop", true),
            ("**", "/", true),
            ("/v1/{a}", "/v1/a/b", false),
        ];
        for (pattern, path, fits) in cases {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
        // What would take for ever by trying all ways.
        let begin = std::time::Instant::now();
        assert!(!matches("/**a**a**a**a**a**a**b", &format!("/{}", "a".repeat(8_000))));
        assert!(begin.elapsed() < std::time::Duration::from_secs(5));
        let rule = |service: &str| AccessRule {
            service: service.into(),
            path: "/v2/summary".into(),
            method: "GET".into(),
        };
        assert!(allow(&[rule("rating")], "rating", "GET", "/v2/summary"));
        assert!(!allow(&[rule("volume")], "rating", "GET", "/v2/summary"));
        assert!(!allow(&[rule("rating")], "rating", "POST", "/v2/summary"));
    }
}
