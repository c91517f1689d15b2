#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# sqlite3: a database of 60,000 rows made, changed and dumped.
. "${0%/*}/../lib/tap.sh"
need sqlite3
plan 4

cat >"$TMP/make.sql" <<'SQL'
PRAGMA cache_size = 400;
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, n INT, data BLOB);
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 60000)
INSERT INTO t SELECT i, printf('name %d of %d', i * 7919 % 10007, i), i * i % 5003,
	CASE WHEN i % 100 = 0 THEN zeroblob(i / 10) ELSE printf('%.*c', i % 200, 'x') END FROM c;
CREATE INDEX by_name ON t(name); CREATE INDEX by_n ON t(n, name);
BEGIN; UPDATE t SET name = upper(name) WHERE n % 3 = 0; DELETE FROM t WHERE id % 7 = 0; COMMIT;
BEGIN; DELETE FROM t; ROLLBACK;
CREATE VIRTUAL TABLE words USING fts5(body);
INSERT INTO words SELECT name FROM t WHERE id < 5000;
VACUUM;
SELECT count(*), sum(n), sum(length(data)) FROM t;
SELECT count(*) FROM words WHERE words MATCH 'name AND 4999';
SELECT a.n, count(*), group_concat(a.id) FROM t a JOIN t b ON a.name = b.name
	GROUP BY a.n ORDER BY 2 DESC, 1 LIMIT 20;
WITH RECURSIVE c(i, s) AS (SELECT 1, 'x'
	UNION ALL SELECT i + 1, s || hex(s) FROM c WHERE length(s) < 3000000)
SELECT max(i), max(length(s)) FROM c;
SELECT json_group_array(json_object('id', id, 'name', name)) FROM t WHERE id < 300;
PRAGMA integrity_check;
SQL

sqlite3 "$TMP/plain.db" <"$TMP/make.sql" >"$TMP/want" 2>&1
with_sluice sqlite3 "$TMP/sluice.db" <"$TMP/make.sql" >"$TMP/got" 2>&1
is $? 0 "sqlite3 ends well"
ok "$(cmp "$TMP/want" "$TMP/got" >&2; echo $?)" "queries give the same as without the library"
is "$(with_sluice sqlite3 "$TMP/sluice.db" .dump | sha256sum)" \
	"$(sqlite3 "$TMP/plain.db" .dump | sha256sum)" \
	"dumps of both databases are the same"
proved_loaded "sqlite3 was served by the library" sqlite3
