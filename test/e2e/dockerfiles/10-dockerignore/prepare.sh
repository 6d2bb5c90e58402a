mkdir -p docs/deep lib sub/build build/keep build/drop rooted deep/rooted empty .git
touch a.tmp sub/b.tmp a.log sub/c.log important.log docs/README.md docs/README-secret.md docs/deep/README lib/a.js lib/ab.js rooted/x deep/rooted/y sub/build/z build/keep/this build/drop/that .git/HEAD
