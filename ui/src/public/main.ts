// The balancer's own pages: what this network is, and what an invitation to it leads to.

import { mount } from "svelte";
import "../app.css";
import { locale } from "../i18n/index.svelte";
import { applyTheme } from "../lib/theme";
import Public from "./Public.svelte";

locale.choose(null, navigator.languages);
document.documentElement.lang = locale.language;
applyTheme("system");
mount(Public, { target: document.getElementById("app")! });
