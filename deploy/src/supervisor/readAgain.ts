/** What the keeper of a compact stack becomes when settings are to be read again: `readAgain.ts <plan.json>`. */
import { readPlan } from '../stack/plan.ts';
import { becomeNext } from './reload.ts';

becomeNext(readPlan(process.argv[2] ?? ''));
