# Of an ABI in libabigail's XML: what can be reached from exported functions, and nothing else. A
# compiler's private types would make a difference of what no program can see.

# Blocks are declarations of types and functions; what is around them (namespaces, units) stays.
function name_of(line) { sub(/^ *<\/?/, "", line); sub(/[ >\/].*/, "", line); return line }
function indent_of(line) { match(line, /^ */); return RLENGTH }

{
    text[NR] = $0
    tag = name_of($0)
    if (!inside && tag ~ /^(class-decl|enum-decl|union-decl|type-decl|pointer-type-def|reference-type-def|qualified-type-def|array-type-def|typedef-decl|function-type|function-decl)$/ && $0 !~ /^ *<\//) {
        inside = ++blocks
        indent = indent_of($0)
        if (tag == "function-decl" && $0 ~ /elf-symbol-id=/)
            todo[++count] = inside
    }
    if (inside) {
        block[NR] = inside
        rest = $0
        while (match(rest, / (type-)?id='[^']*'/)) {
            found = substr(rest, RSTART + 1, RLENGTH - 1)
            rest = substr(rest, RSTART + RLENGTH)
            if (found ~ /^id=/)
                home[substr(found, 4)] = inside
            else
                needs[inside] = needs[inside] " " substr(found, 9)
        }
        if ($0 ~ /\/> *$/ ? indent_of($0) == indent : ($0 ~ /^ *<\// && indent_of($0) == indent))
            inside = 0
    } else if ($0 ~ /path='/) {
        sub(/path='[^']*'/, "path='libpi0rt'", text[NR])
    }
}

END {
    for (i = 1; i <= count; i++) {
        if (kept[todo[i]]++)
            continue
        n = split(needs[todo[i]], ids, " ")
        for (j = 1; j <= n; j++)
            if (home[ids[j]] && !kept[home[ids[j]]])
                todo[++count] = home[ids[j]]
    }
    # Wrappers that have become empty go, from the inside out.
    lines = 0
    for (i = 1; i <= NR; i++) {
        if (block[i] && !kept[block[i]])
            continue
        tag = name_of(text[i])
        if (text[i] ~ /^ *<\// && tag ~ /^(namespace-decl|abi-instr)$/ && name_of(out[lines]) == tag && out[lines] !~ /^ *<\// && out[lines] !~ /\/> *$/)
            lines--
        else
            out[++lines] = text[i]
    }
    for (i = 1; i <= lines; i++)
        print out[i]
}
