#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# java: the compiler and a program with threads, direct buffers, zip and garbage collections.
. "${0%/*}/../lib/tap.sh"
need java openjdk-17-jdk-headless
need javac openjdk-17-jdk-headless
plan 4

cat >"$TMP/Work.java" <<'JAVA'
import java.io.*;
import java.nio.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.zip.*;
public class Work {
	static long work(int k) throws Exception {
		Map<Integer, String> m = new TreeMap<>();
		for (int i = 0; i < 40000; i++) m.put((i * 7919 + k) % 5003, "value " + i * k);
		ByteArrayOutputStream out = new ByteArrayOutputStream();
		try (GZIPOutputStream z = new GZIPOutputStream(out)) {
			for (String s : m.values()) z.write(s.getBytes());
		}
		CRC32 c = new CRC32();
		ByteArrayInputStream in = new ByteArrayInputStream(out.toByteArray());
		c.update(new GZIPInputStream(in).readAllBytes());
		ByteBuffer[] direct = new ByteBuffer[200];
		for (int i = 0; i < direct.length; i++) {
			direct[i] = ByteBuffer.allocateDirect(1000 + i * 300);
			direct[i].putInt(0, i + k);
		}
		long sum = c.getValue();
		for (ByteBuffer b : direct) sum += b.getInt(0);
		return sum;
	}
	public static void main(String[] a) throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(6);
		List<Future<Long>> all = new ArrayList<>();
		for (int k = 0; k < 24; k++) {
			final int n = k;
			all.add(pool.submit(() -> work(n)));
		}
		long sum = 0; for (Future<Long> f : all) sum += f.get();
		pool.shutdown();
		byte[][] garbage = new byte[64][];
		for (int i = 0; i < 3000; i++) garbage[i % 64] = new byte[20000 + i];
		System.gc();
		Process p = new ProcessBuilder("echo", "from a child")
			.redirectErrorStream(true).start();
		String said = new String(p.getInputStream().readAllBytes()).trim();
		System.out.println(sum + " " + said + " " + p.waitFor());
	}
}
JAVA

cd "$TMP" || exit 1
mkdir plain sluice
javac -d plain Work.java || bail_out "javac cannot compile the test's program"
want=$(java -Xmx256m -cp plain Work)
with_sluice javac -d sluice Work.java
ok "$?$(cmp plain/Work.class sluice/Work.class >&2; echo $?)" "javac writes the same class"
out=$(with_sluice java -Xmx256m -cp sluice Work 2>&1)
is "$?" 0 "java ends well"
is "$out" "$want" "java says the same as without the library"
proved_loaded "java was served by the library" java
