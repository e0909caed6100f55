# Sums up the result lines of `cargo test` and names what failed.
/^test result: / {
    for (i = 1; i < NF; i++) {
        if ($(i + 1) == "passed;") passed += $i
        if ($(i + 1) == "failed;") failed += $i
        if ($(i + 1) == "ignored;") skipped += $i
    }
    binaries++
}
/^test .* \.\.\. FAILED$/ { names[++n] = $2 }
/^error: could not compile/ { broken++ }
END {
    print ""
    for (i = 1; i <= n; i++) print "failed: " names[i]
    if (broken) print "some crates did not compile"
    if (!binaries) print "no test ran"
    print binaries + 0 " test binaries"
    printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped
    exit (failed > 0 || broken > 0 || passed == 0)
}
