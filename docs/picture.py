#!/usr/bin/env python3
"""picture.py REPORT.html OUT.svg: the first picture of a run's report as a file of its own, for light and dark pages."""
import re
import sys

page = open(sys.argv[1], encoding="utf-8").read()
svg = re.search(r"<svg.*?</svg>", page, re.S).group(0)
style = re.search(r"<style>(.*?)</style>", page, re.S).group(1)
width, height = re.search(r"viewBox='0 0 (\d+) (\d+)'", svg).groups()
head = (f"<svg xmlns='http://www.w3.org/2000/svg' class='marks' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"style='width:{width}px' role='img'><style>{style} text{{font-family:sans-serif}}</style>")
open(sys.argv[2], "w", encoding="utf-8").write(re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1) + "\n")
