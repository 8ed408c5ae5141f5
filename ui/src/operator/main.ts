// The page of those who run the network.

import { mount } from "svelte";
import "../app.css";
import { locale } from "../i18n/index.svelte";
import { clock } from "../lib/clock.svelte";
import { press } from "../lib/press.svelte";
import { applyTheme } from "../lib/theme";
import Operator from "./Operator.svelte";
import { route } from "./route.svelte";

locale.choose(null, navigator.languages);
document.documentElement.lang = locale.language;
applyTheme("system");
clock.run();
press.run();
route.run();
mount(Operator, { target: document.getElementById("app")! });
